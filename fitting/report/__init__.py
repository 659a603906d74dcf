"""The report of a run: one self-contained page that a person opens."""

from __future__ import annotations

from pathlib import Path

from likeness.scene.files import write_bytes

NAME = "report.html"


def write_report(run_dir: Path) -> Path:
    """Writes ``report.html`` into a run directory from the files that are there, and returns its
    path.

    Reads capture/, metrics.json, heldout/, log.jsonl, config.yaml and run.json. A part that is
    missing is said to be missing; the page is written all the same.
    """
    import jinja2

    from likeness.fitting.report.contents import gather

    run_dir = Path(run_dir)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html").render(**gather(run_dir))
    path = run_dir / NAME
    write_bytes(path, page.encode())
    return path
