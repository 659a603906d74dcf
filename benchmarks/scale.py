"""Many subjects on one machine: subjects an hour by the number of jobs, and where the time goes.

    python -m benchmarks.scale [--videos FILE ...] [--subjects 2] [--jobs 1 2] [--iterations 100]

Each line is one run of ``fit_subject.py --list`` on fresh folders: the same videos under other
names; unless videos are given, a synthetic subject of 48 frames. See docs/clusters.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.figures import announced
from likeness.scene.files import write_json
from likeness.scene.reading import read_json

_STAGES = ("preprocess", "fit")
_TITLES = (
    "jobs | threads of each | subjects an hour | ratio | cores busy | preprocess, s | core-s | MB "
    "| fit, s | core-s | MB"
)


def measure(
    videos: Sequence[Path], subjects: int, jobs: int, options: Sequence[str], folder: Path
) -> dict[str, Any]:
    """One run over so many subjects: wall seconds, subjects an hour, and of each stage the mean
    seconds and core-seconds and the largest memory."""
    folder.mkdir(parents=True)
    listing, out = folder / "subjects.txt", folder / "out"
    clips = [videos[number % len(videos)].absolute() for number in range(subjects)]
    lines = [f"'{clip}' name=subject-{number}" for number, clip in enumerate(clips)]
    listing.write_text("\n".join(lines))
    what = ["-m", "likeness", "fit", "--list", str(listing), "--out", str(out), "--jobs", str(jobs)]
    begun = time.perf_counter()
    subprocess.run([sys.executable, *what, *options], stdout=sys.stderr, check=True)
    wall = time.perf_counter() - begun
    summary = read_json(out / "summary.json", dict, "summary of a list")
    tasks = [row["tasks"] for row in summary["subjects"]]
    row: dict[str, Any] = {"jobs": jobs, "threads": tasks[0]["fit"]["threads"], "wall_s": wall}
    for stage in _STAGES:
        for key, figure in (("s", "seconds"), ("core_s", "cpu_seconds")):
            row[f"{stage}_{key}"] = sum(task[stage][figure] for task in tasks) / subjects
        row[f"{stage}_mb"] = max(task[stage]["peak_mb"] for task in tasks)
    row["cores_busy"] = subjects * (row["preprocess_core_s"] + row["fit_core_s"]) / wall
    return row | {"per_hour": 3600 * subjects / wall}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    lines = [f"| {_TITLES} |", "|" + "---|" * (_TITLES.count("|") + 1)]
    for row in rows:
        ratio = row["per_hour"] / rows[0]["per_hour"]
        cells = [f"{row['jobs']} | {row['threads']} | {row['per_hour']:.1f} | {ratio:.2f}"]
        cells.append(f"{row['cores_busy']:.2f}")
        cells += [
            f"{row[f'{stage}_s']:.1f} | {row[f'{stage}_core_s']:.1f} | {row[f'{stage}_mb']:.0f}"
            for stage in _STAGES
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, nargs="+", help="clips [default: a synthetic one]")
    parser.add_argument("--subjects", type=int, default=2, help="how many for each number of jobs")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=100, help="of each fit")
    parser.add_argument("--size", type=int, default=256, help="of the captures, pixels")
    parser.add_argument("--tracking", choices=("pictures", "landmarks"), default="pictures")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    names = ("iterations", "size", "tracking", "device")
    options = [f"--{name}={getattr(args, name)}" for name in names] + ["--offline"]
    conditions = announced(subjects=args.subjects, options=" ".join(options))
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        videos = args.videos or [_synthetic_video(Path(temporary))]
        rows = [
            measure(videos, args.subjects, jobs, options, Path(temporary) / f"jobs-{jobs}")
            for jobs in args.jobs
        ]
    print(markdown(rows))
    if args.json:
        write_json(args.json, conditions | {"rows": rows})


def _synthetic_video(folder: Path) -> Path:
    from likeness.synthetic.truth import make_demo

    return make_demo(folder / "subject", frames=48, size=256).video


if __name__ == "__main__":
    main()
