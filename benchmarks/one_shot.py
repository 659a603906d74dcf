"""The one-shot network against a mesh with the image on it and a mean head.

    python -m benchmarks.one_shot --people 20
    python -m benchmarks.one_shot --captures runs/*/capture --pictures runs/one_shot_pictures

Synthetic subjects are none that training draws; the tracker of the source errs as data.* of the
training says. Of captures one calm, frontal frame is the source and all others are targets.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.common.figures import announced, parser, table


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--weights", type=Path, metavar="FILE", help="weights [those that ship]")
    add("--people", type=int, default=0, metavar="N", help="synthetic subjects to measure on")
    add("--captures", nargs="*", default=[], type=Path, metavar="DIR", help="one frame in")
    add("--most", type=int, default=60, help="targets of each [60]")
    add("--pictures", type=Path, metavar="DIR", help="write mosaics of the captures there")
    add("--gaussians", type=int, default=10_000, metavar="N", help="of every method [10000]")
    args = options.parse_args(arguments)

    from likeness.cli import command_line

    command_line.set_up_environment()
    from benchmarks.common.one_shot_figures import FIRST_SEED, cost, on_capture, on_subject
    from likeness.renderers import create
    from likeness.scene.capture import Capture
    from likeness.scene.files import write_json
    from likeness.seeding.config import SeedingConfig

    config, renderer = SeedingConfig(args.gaussians, weights=args.weights), create("cpu")
    result: dict[str, Any] = {"machine": announced()}
    if args.people:
        people = [on_subject(FIRST_SEED + k, config, renderer) for k in range(args.people)]
        result["people"] = people
        print(people_table(people), flush=True)
    if args.captures:
        result["captures"] = captures = {}
        for path in args.captures:
            capture, name = Capture.load(path), name_of(path)
            keep = args.pictures / f"{name}.png" if args.pictures else None
            figures = on_capture(capture, config, renderer, args.most, keep)
            captures[name] = figures | {"cost": cost(config, capture)}
        print(captures_table(captures), flush=True)
    if args.json:
        write_json(args.json, result)


def name_of(path: Path) -> str:
    """What a capture is called."""
    root = path.absolute()
    return root.parent.name if root.name == "capture" else root.name


def people_table(people: list[dict[str, Any]]) -> str:
    """A row per method: mean PSNR and SSIM at the source view, the side views and the expressions,
    and errors."""
    from benchmarks.common.one_shot_figures import EXPRESSIONS, METHODS, VIEWS

    groups = {"source": ["source"], "±30°": [name for name in VIEWS if name != "source"]}
    groups["expressions"] = [*EXPRESSIONS]
    rows = []
    for method in (method for method in METHODS if method in people[0]):
        cells = []
        for names in groups.values():
            figures = [person[method]["pictures"][name] for person in people for name in names]
            psnr, ssim = (statistics.mean(f[key] for f in figures) for key in ("psnr", "ssim"))
            cells.append(f"{psnr:.2f} / {ssim:.3f}")
        for error in ("identity", "expression"):
            values = [person[method][error] for person in people]
            values = [value for value in values if value is not None]
            cells.append(f"{statistics.mean(values):.2f}" if values else "–")
        rows.append((METHODS[method], *cells))
    return (
        f"{len(people)} synthetic subjects that no training drew. PSNR / SSIM; errors in % of the "
        f"eye distance.\n\n{table(('method', *groups, 'identity', 'expression'), rows)}"
    )


def captures_table(captures: dict[str, dict[str, Any]]) -> str:
    """A row per capture."""
    from benchmarks.common.one_shot_figures import METHODS

    methods = [method for method in METHODS if method in next(iter(captures.values()))]
    rows = [
        (
            name,
            row["frames"],
            *(f"{row[method]['psnr']:.2f} / {row[method]['ssim']:.3f}" for method in methods),
            f"{row['cost']['again_s']:.1f}",
        )
        for name, row in captures.items()
    ]
    titles = ("capture", "targets", *methods, "seconds")
    return f"One frame in, all others as targets. PSNR / SSIM.\n\n{table(titles, rows)}"


if __name__ == "__main__":
    main()
