"""Tracking of synthetic subjects (errors against the truth) and of videos (landmark error, what
photometric tracking changes, cost).

    python -m benchmarks.tracking --people 11
    python -m benchmarks.tracking --people 3 --focal-error 0.7 1.3
    python -m benchmarks.tracking --people 0 --videos a.mp4 b.mp4

Person 0 is the demo of the README; of the others chance decides identity, skin, hair, distance,
focal length, speech and grimaces. Their videos go the way of any user's: compressed, with mattes of
their own. The tracker is told the true focal length times --focal-error. Finished ones are kept in
--out: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common.figures import parser, table

CURVES = ("blink", "smile", "jaw", "brows")
KINDS = {"landmarks": "landmarks", "pictures": "photometric"}


def main() -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--people", type=int, default=1, metavar="N", help="synthetic subjects 0 to N - 1 [1]")
    add("--frames", type=int, default=240, metavar="N", help="frames of each [240]")
    add(
        "--focal-error",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="what the true focal length is multiplied by [1]",
    )
    add("--videos", nargs="*", default=[], type=Path, metavar="FILE", help="videos to track")
    add("--out", type=Path, default=Path("runs/tracking"), metavar="DIR", help="kept figures")
    args = options.parse_args()

    from likeness.cli import command_line

    command_line.set_up_environment()
    from likeness.scene.files import write_json
    from likeness.scene.machine import machine_line

    people = [
        on_person(seed, args.frames, factor, args.out)
        for factor in args.focal_error
        for seed in range(args.people)
    ]
    videos = [on_video(video, args.out) for video in args.videos]
    tables = ([people_table(people)] if people else []) + ([videos_table(videos)] if videos else [])
    # Kept figures are of the machine and the day that they were measured on.
    print(
        "\n".join(sorted({machine_line(row["machine"], load=False) for row in (*people, *videos)}))
    )
    print("\n\n".join(tables))
    if args.json:
        write_json(args.json, {"people": people, "videos": videos})


def person_options(seed: int) -> dict[str, float]:
    """Fields of DemoConfig that differ between people."""
    import numpy as np

    if seed == 0:
        return {}
    rng = np.random.default_rng((seed, 11))
    options = {
        "focal": rng.uniform(1.3, 3.5),
        "field": rng.uniform(0.36, 0.6),
        "grimaces": rng.uniform(0.0, 1.0),
    }
    return {name: round(float(value), 3) for name, value in options.items()}


def on_person(seed: int, frames: int, focal_error: float, out: Path) -> dict[str, Any]:
    """The errors of a synthetic subject's landmark tracking and of what the pictures make of it."""
    from likeness.preprocess.photometric.config import PhotometricConfig
    from likeness.preprocess.photometric.refinement import refine
    from likeness.preprocess.pipeline import PreprocessConfig, find_or_build
    from likeness.scene.files import write_json
    from likeness.scene.machine import machine
    from likeness.synthetic.errors import errors
    from likeness.synthetic.truth import make_demo

    options, config = person_options(seed), PhotometricConfig()
    asked = {
        "seed": seed,
        "frames": frames,
        "focal_error": focal_error,
        **options,
        **dataclasses.asdict(config),
    }
    record = out / f"person{seed}-focal{focal_error:g}.json"
    if record.exists():
        kept = json.loads(record.read_text())
        if kept["asked"] != asked:
            sys.exit(f"{record}: figures with other options; choose another --out")
        return kept
    truth = make_demo(out / f"person{seed}", frames=frames, seed=seed, **options)
    focal = truth.config.focal * focal_error
    capture = find_or_build(
        truth.video,
        out / "captures",
        PreprocessConfig(tracking="landmarks", focal=focal),
        download=False,
    )
    refined = refine(capture, config)
    result = {
        "asked": asked,
        "machine": machine(),
        "landmarks": errors(truth, capture),
        "pictures": errors(truth, refined),
        "report": refined.report["photometric"],
        "picture_s_per_100": 100 * refined.report["photometric"]["seconds"] / len(capture.frames),
    }
    write_json(record, result)
    print(
        f"{record.stem}: {result['pictures']['rotation_deg']['median']:.2f} degrees",
        file=sys.stderr,
        flush=True,
    )
    return result


def people_table(people: list[dict[str, Any]]) -> str:
    """Two rows a subject, and the means over all of each focal error."""
    titles = ("person", "focal length x", "tracked by", "median", "95th", "without offset")
    rows = []
    for factor in dict.fromkeys(person["asked"]["focal_error"] for person in people):
        of_factor = [person for person in people if person["asked"]["focal_error"] == factor]
        for kind, name in KINDS.items():
            figures = [_figures(person, kind) for person in of_factor]
            for person, row in zip(of_factor, figures):
                rows.append((person["asked"]["seed"], f"{factor:g}", name, *_cells(row)))
            if len(figures) > 1:
                known = [
                    [value for value in column if value is not None] for column in zip(*figures)
                ]
                means = [statistics.mean(column) if column else None for column in known]
                rows.append(("mean", f"{factor:g}", name, *_cells(means)))
    return (
        "Rotation error of the heads in degrees, without the constant offset between head frames "
        "too, its jitter, and\ncorrelation of expressions with the truth.\n\n"
        + table((*titles, "jitter", *CURVES, "s per 100 frames"), rows)
    )


def _figures(person: dict[str, Any], kind: str) -> list[float | None]:
    rotation, curves = person[kind]["rotation_deg"], person[kind]["expressions"]
    return [
        rotation["median"],
        rotation["p95"],
        rotation["without_offset"]["median"],
        rotation["jitter"],
        *(curves[name] for name in CURVES),
        person["picture_s_per_100"] if kind == "pictures" else None,
    ]


def _cells(values: list[float | None]) -> list[str]:
    digits = [2, 2, 2, 3, *[2] * len(CURVES), 0]
    return ["–" if value is None else f"{value:.{n}f}" for value, n in zip(values, digits)]


def on_video(video: Path, out: Path) -> dict[str, Any]:
    """What the capture's own report says of the tracking, its seconds too: of when the capture was
    made."""
    from likeness.preprocess.pipeline import find_or_build
    from likeness.scene.machine import machine

    capture = find_or_build(video, out / "captures", download=False)
    frames, seconds = len(capture.frames), capture.report["seconds"]
    return {
        "video": video.stem,
        "machine": machine(),
        "frames": frames,
        "residual_percent": capture.report["tracking"]["residual_percent"],
        "photometric": capture.report["photometric"],
        "saturated": capture.report["tracking"]["saturated"],
        "tracking_s_per_100": 100 * seconds["tracking"] / frames,
        "landmarks_s_per_100": 100 * seconds["landmarks"] / frames,
        "picture_s_per_100": 100 * seconds["picture tracking"] / frames,
        "mattes_s_per_100": 100 * seconds["frames"] / frames,
    }


def videos_table(videos: list[dict[str, Any]]) -> str:
    titles = ("video", "frames", "median %", "95th", "turned °", "as by landmarks", "saturated")
    times = ("landmarks", "tracking", "mattes", "picture")
    rows = []
    for row in videos:
        residual, photometric = row["residual_percent"], row["photometric"]
        cells = (f"{residual['median']:.2f}", f"{residual['p95']:.2f}")
        cells += (f"{photometric['rotation_deg']['median']:.2f}", len(photometric["fallen_back"]))
        seconds = (f"{row[f'{name}_s_per_100']:.1f}" for name in times)
        saturated = f"{100 * row['saturated']:.1f}%"
        rows.append((row["video"], row["frames"], *cells, saturated, *seconds))
    return (
        "Error of the landmark tracker: RMSE of the 478 projected landmarks in % of the outer "
        "eye-corner distance.\nTurned: rotation of the heads by photometric tracking. Saturated: "
        "frames with a coefficient of 0.99 or more.\nAll times are seconds per 100 frames.\n\n"
        + table((*titles, *times[:3], "photometric"), rows)
    )


if __name__ == "__main__":
    main()
