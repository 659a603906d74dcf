"""The one-shot network against a mesh with the picture on it and a mean head, as an initializer,
and its ablations.

    python -m benchmarks.one_shot --people 20
    python -m benchmarks.one_shot --captures runs/*/capture --pictures runs/one_shot_pictures
    python -m benchmarks.one_shot --fits runs/*/capture --iterations 2000
    python -m benchmarks.one_shot --ablations runs/.people --minutes-each 10

Made people are none that training draws; the tracker of the source errs as data.* of the training
says. Of captures one calm, frontal frame is the source and all others are targets. Fits of equal
length start from each initializer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

STARTS = {"mesh": "mesh", "picture": "picture", "one_shot": "one-shot"}
# Short trainings; the first is what the others are compared with.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "embedded model": (),
    "3000 queries": ("model.queries=3000",),
    "12000 queries": ("model.queries=12000",),
    "backbone without the mesh": ("model.backbone.sees_mesh=false",),
    "one-plane lifting": ("model.lifting.planes=single",),
    "without lifting": ("model.lifting.enabled=false",),
    "without offsets": ("model.offsets=false",),
    "attention alone (LAM)": ("model.pixel_aligned=false",),
    "pixels alone": ("model.blocks=0",),
    "with the screen refiner": ("model.refiner.enabled=true",),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights (default: those that ship)"
    )
    parser.add_argument(
        "--people", type=int, default=0, metavar="N", help="made people to measure on"
    )
    parser.add_argument(
        "--captures",
        nargs="*",
        default=[],
        type=Path,
        metavar="DIR",
        help="one frame in, others out",
    )
    parser.add_argument("--most", type=int, default=60, help="targets of each (default: 60)")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write mosaics of the captures there"
    )
    parser.add_argument(
        "--fits", nargs="*", default=[], type=Path, metavar="DIR", help="captures to fit"
    )
    parser.add_argument(
        "--iterations", type=int, default=2000, metavar="N", help="of each fit (default: 2000)"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=100,
        metavar="N",
        help="iterations between figures (default: 100)",
    )
    parser.add_argument("--preset", default="default", help="preset of the fits (default: default)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting of every fit",
    )
    parser.add_argument(
        "--gaussians",
        type=int,
        default=10_000,
        metavar="N",
        help="of every method (default: 10000)",
    )
    parser.add_argument(
        "--ablations", type=Path, metavar="DIR", help="folder of captures to train on"
    )
    parser.add_argument(
        "--minutes-each", type=float, default=10.0, metavar="M", help="of a training (default: 10)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only ablations with one of these in their name"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args(arguments)

    from likeness.cli import command_line

    command_line.set_up_environment()
    from benchmarks.common.figures import announced
    from benchmarks.common.one_shot_figures import FIRST_SEED, cost, on_capture, on_made_person
    from benchmarks.common.one_shot_fits import fit_curve
    from benchmarks.one_shot_ablations import train_and_measure
    from likeness.fitting.config import FitConfig
    from likeness.renderers import create
    from likeness.scene.capture import Capture
    from likeness.scene.config_files import load_preset
    from likeness.scene.files import write_json
    from likeness.seeding.config import SeedingConfig

    config, renderer = SeedingConfig(args.gaussians, weights=args.weights), create("cpu")
    result: dict[str, Any] = {"machine": announced()}
    if args.people:
        people = [on_made_person(FIRST_SEED + k, config, renderer) for k in range(args.people)]
        result["people"] = people
        print(people_table(people), flush=True)
    for path in args.captures:
        capture = Capture.load(path)
        keep = args.pictures / f"{name_of(path)}.png" if args.pictures else None
        figures = on_capture(capture, config, renderer, args.most, keep)
        result.setdefault("captures", {})[name_of(path)] = figures | {"cost": cost(config, capture)}
    if args.captures:
        print(captures_table(result["captures"]), flush=True)
    for path in args.fits:
        capture = Capture.load(path)
        curves = {
            start: fit_curve(
                capture,
                load_preset(args.preset, FitConfig, args.overrides),
                start,
                config,
                args.iterations,
                args.every,
                renderer,
            )
            for start in STARTS
        }
        result.setdefault("fits", {})[name_of(path)] = curves
        print(fits_table({name_of(path): curves}), flush=True)
    if args.ablations:
        rows = {}
        for name, settings in ABLATIONS.items():
            if (
                args.only is None
                or name == next(iter(ABLATIONS))
                or any(text in name for text in args.only)
            ):
                rows[name] = train_and_measure(args.ablations, settings, args.minutes_each)
                print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
        result["ablations"] = rows
        print(ablations_table(rows, args.minutes_each))
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

    groups = {
        "source": ["source"],
        "±30°": [name for name in VIEWS if name != "source"],
        "expressions": EXPRESSIONS,
    }
    lines = [
        f"{len(people)} made people that no training drew. PSNR / SSIM; errors in % of the eye distance.",
        "",
        "| method | " + " | ".join(groups) + " | identity | expression |",
        "|---" * (len(groups) + 3) + "|",
    ]
    for method in (method for method in METHODS if method in people[0]):
        cells = []
        for names in groups.values():
            rows = [person[method]["pictures"][name] for person in people for name in names]
            cells.append(f"{_mean(rows, 'psnr'):.2f} / {_mean(rows, 'ssim'):.3f}")
        for error in ("identity", "expression"):
            values = [
                person[method][error] for person in people if person[method][error] is not None
            ]
            cells.append(f"{statistics.mean(values):.2f}" if values else "–")
        lines.append(f"| {METHODS[method]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def captures_table(captures: dict[str, dict[str, Any]]) -> str:
    """A row per capture."""
    from benchmarks.common.one_shot_figures import METHODS

    first = next(iter(captures.values()))
    methods = [method for method in METHODS if method in first]
    lines = [
        "One frame in, all others as targets. PSNR / SSIM.",
        "",
        "| capture | targets | " + " | ".join(methods) + " | seconds |",
        "|---" * (len(methods) + 3) + "|",
    ]
    for name, row in captures.items():
        cells = [f"{row[method]['psnr']:.2f} / {row[method]['ssim']:.3f}" for method in methods]
        lines.append(
            f"| {name} | {row['frames']} | "
            + " | ".join(cells)
            + f" | {row['cost']['again_s']:.1f} |"
        )
    return "\n".join(lines)


def fits_table(fits: dict[str, dict[str, list]]) -> str:
    """A row per capture and start: PSNR at the beginning and the end, iterations to the mesh
    start's end."""
    from benchmarks.common.one_shot_fits import reached

    lines = [
        "| capture | start | at the start | at the end | iterations to the mesh's end |",
        "|---|---|---|---|---|",
    ]
    for name, curves in fits.items():
        goal = curves["mesh"][-1][1]
        for start, label in STARTS.items():
            curve = curves[start]
            step = reached(curve, goal)
            cells = [
                f"{curve[0][1]:.2f}",
                f"{curve[-1][1]:.2f}",
                "never" if step is None else str(step),
            ]
            lines.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ablations_table(rows: dict[str, dict[str, float]], minutes: float) -> str:
    """A row per training; in brackets the difference to the first."""
    base = next(iter(rows.values()))
    lines = [
        f"Trainings of {minutes:g} minutes; people that none of them saw.",
        "",
        "| model | PSNR | SSIM | steps | samples/s |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        gap = "" if row is base else f" ({row['psnr'] - base['psnr']:+.2f})"
        speed = f"{row['steps']} | {row['samples_per_s']:.2f}"
        lines.append(f"| {name} | {row['psnr']:.2f}{gap} | {row['ssim']:.3f} | {speed} |")
    return "\n".join(lines)


def _mean(rows: list[dict[str, float]], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


if __name__ == "__main__":
    main()
