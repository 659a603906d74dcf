"""Many subjects on one machine: subjects an hour by the number of jobs, where the time goes, what a
task itself costs.

    python benchmarks/scale.py [--videos FILE ...] [--subjects 2] [--jobs 1 2] [--iterations 100] [--json scale.json]

Each line is one run of ``fit_subject.py --list`` on fresh folders: the same videos under other
names. Unless videos are given, a made person of 48 frames. The limit of the ratio is how many cores
are idle while one job is at work. docs/ten_thousand_subjects.md says what follows from the figures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
from typing import Any

from benchmarks.conditions import announced
from likeness.collection import resources
from likeness.collection.scheduler import LocalPool, run
from likeness.collection.tasks import Task
from likeness.collection.view import View
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.machine import machine_line
from likeness.scene.reading import read_json

_ROOT = Path(__file__).resolve().parents[1]
_EMPTY = "import sys; open(sys.argv[1], 'w').close()"


def overhead(tasks: int, folder: Path) -> dict[str, float]:
    """Milliseconds that a task costs beyond its own process: empty programs one after the other,
    with us and bare."""
    chains = [[_empty(folder, number)] for number in range(tasks)]
    begun = time.perf_counter()
    run(chains, LocalPool(1, 1, 1e6), View("empty tasks"))
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    for number in range(tasks):
        subprocess.run(
            [sys.executable, "-S", "-c", _EMPTY, str(folder / f"bare-{number}")], check=True
        )
    bare = time.perf_counter() - begun
    begun = time.perf_counter()
    run(chains, LocalPool(1, 1, 1e6), View("finished tasks"))
    again = time.perf_counter() - begun
    return {
        name: round(1000 * seconds / tasks, 2)
        for name, seconds in (
            ("task_ms", ours),
            ("bare_process_ms", bare),
            ("finished_task_ms", again),
        )
    }


def _empty(folder: Path, number: int) -> Task:
    product = folder / f"empty-{number}"
    command = ("-S", "-c", _EMPTY, str(product))
    return Task(f"empty-{number}", "fit", folder / "tasks" / f"{number}", command, product)


def measure(
    videos: Sequence[Path], subjects: int, jobs: int, options: Sequence[str], folder: Path
) -> dict[str, Any]:
    """One run of the program over so many subjects: wall seconds, subjects an hour, means of parts,
    memory, storage."""
    listing = folder / "subjects.txt"
    lines = [
        f"'{videos[number % len(videos)].absolute()}' name=subject-{number}"
        for number in range(subjects)
    ]
    folder.mkdir(parents=True)
    listing.write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        str(_ROOT / "fit_subject.py"),
        "--list",
        str(listing),
        "--out",
        str(folder / "out"),
        "--jobs",
        str(jobs),
        *options,
    ]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - begun
    if done.returncode != 0:
        raise UserError(
            f"{' '.join(command)}: ended with code {done.returncode}:\n{done.stdout[-2000:]}"
        )
    rows = read_json(folder / "out" / "summary.json", dict, "summary of a list")["subjects"]
    return {
        "jobs": jobs,
        "wall_s": round(wall, 1),
        "per_hour": round(3600 * subjects / wall, 2),
        "threads": rows[0]["tasks"]["fit"]["threads"],
        **_parts(rows, wall),
        **storage(folder / "out", subjects),
    }


def _parts(rows: list[dict[str, Any]], wall: float) -> dict[str, Any]:
    """Means over subjects: seconds of the tasks and of what is in them, core-seconds; peak memory;
    cores kept busy."""
    seconds: dict[str, float] = {}
    for row in rows:
        metrics = read_json(Path(row["run"]) / "metrics.json", dict, "metrics of a run")["seconds"]
        fit, preprocess = row["tasks"]["fit"], row["tasks"]["preprocess"]
        optimising = metrics["fit"] + metrics["baseline"]
        parts = {
            "preprocess": preprocess["seconds"],
            "fit": fit["seconds"],
            "of it optimising": optimising,
            "of it else": fit["seconds"] - optimising,
            "preprocess, core-s": preprocess["cpu_seconds"],
            "fit, core-s": fit["cpu_seconds"],
        }
        for name, value in parts.items():
            seconds[name] = round(seconds.get(name, 0.0) + value / len(rows), 2)
    peaks = {
        stage: max(row["tasks"][stage]["peak_mb"] for row in rows)
        for stage in ("preprocess", "fit")
    }
    busy = len(rows) * (seconds["preprocess, core-s"] + seconds["fit, core-s"]) / wall
    return {"seconds": seconds, "peak_mb": peaks, "cores_busy": round(busy, 2)}


def storage(out: Path, subjects: int) -> dict[str, Any]:
    """MB of a subject by part, and its number of files. What is linked into two places counts
    once."""
    parts = {
        "capture": out.glob("captures/*/*"),
        "preprocessing's work": out.glob("captures/*/work"),
        "bundle": out.glob("runs/*/bundle"),
        "checkpoints": out.glob("runs/*/checkpoints"),
        "other figures and pictures": out.glob("runs/*"),
        "tasks": [out / "tasks"],
    }
    seen: set[int] = set()
    found = dict.fromkeys(parts, 0)
    # The whole of a folder comes after what is a part of it.
    for name in (
        "preprocessing's work",
        "capture",
        "bundle",
        "checkpoints",
        "other figures and pictures",
        "tasks",
    ):
        for top in parts[name]:
            for path in [top, *top.rglob("*")]:
                entry = path.stat()
                if path.is_file() and entry.st_ino not in seen:
                    seen.add(entry.st_ino)
                    found[name] += entry.st_size
    sizes = {name: round(size / subjects / 1e6, 2) for name, size in found.items()}
    return {"storage_mb": sizes, "files": round(len(seen) / subjects)}


_TITLES = (
    "jobs",
    "threads of each",
    "subjects an hour",
    "ratio",
    "cores busy",
    "preprocess s",
    "core-s",
    "fit s",
    "core-s",
    "of it optimising s",
    "of it else s",
    "peak MB preprocess",
    "fit",
)


def report(found: dict[str, Any]) -> str:
    """The figures as a table."""
    machine, cost = found["machine"], found["overhead"]
    first = found["runs"][0]
    lines = [
        f"{machine_line(machine)}, {machine['gpus']} GPUs; Python {machine['python']}, torch {machine['torch']}, code "
        f"{machine['code']}; {found['subjects']} subjects, {' '.join(found['options'])}",
        f"a task costs {cost['task_ms'] - cost['bare_process_ms']:.1f} ms beside its process "
        f"({cost['bare_process_ms']:.1f} ms when empty); passing over a finished one {cost['finished_task_ms']:.2f} ms",
        "",
        "| " + " | ".join(_TITLES) + " |",
        "|" + "---|" * len(_TITLES),
    ]
    for row in found["runs"]:
        s, peak = row["seconds"], row["peak_mb"]
        names = (
            "preprocess",
            "preprocess, core-s",
            "fit",
            "fit, core-s",
            "of it optimising",
            "of it else",
        )
        cells = [
            str(row["jobs"]),
            str(row["threads"]),
            f"{row['per_hour']:.1f}",
            f"{row['per_hour'] / first['per_hour']:.2f}",
            f"{row['cores_busy']:.2f} of {machine['cores']}",
            *(f"{s[name]:.1f}" for name in names),
            f"{peak['preprocess']:.0f}",
            f"{peak['fit']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "MB on disk of one subject: "
        + ", ".join(f"{k} {v:.1f}" for k, v in first["storage_mb"].items())
        + f"; {first['files']} files",
    ]
    return "\n".join(lines)


def _made_video(folder: Path) -> Path:
    from likeness.synthetic.truth import make_demo

    return make_demo(folder, frames=48, size=256).video


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos", type=Path, nargs="+", help="clips to take in turn (default: a made one)"
    )
    parser.add_argument("--subjects", type=int, default=2, help="how many for each number of jobs")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=100, help="of each fit")
    parser.add_argument("--size", type=int, default=256, help="of the captures, pixels")
    parser.add_argument("--tracking", choices=("pictures", "landmarks"), default="pictures")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--tasks", type=int, default=50, help="empty tasks that the overhead is measured with"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    options = [
        f"--iterations={args.iterations}",
        f"--size={args.size}",
        f"--tracking={args.tracking}",
        f"--device={args.device}",
        "--offline",
    ]
    conditions = announced(gpus=len(resources.gpus()), free_mb=round(resources.free_mb()))
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        videos = args.videos or [_made_video(folder / "made")]
        found = {
            "machine": conditions,
            "subjects": args.subjects,
            "options": options,
            "overhead": overhead(args.tasks, folder / "overhead"),
            "runs": [
                measure(videos, args.subjects, jobs, options, folder / f"jobs-{jobs}")
                for jobs in args.jobs
            ],
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report(found))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
