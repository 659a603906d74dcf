"""The ablations of both papers on the same captures in one run, with equal steps or minutes.

    python -m benchmarks.ablations --capture runs/me-.../capture --iterations 2000 --seeds 3 --out runs/ablations

Every fit has its own process; finished ones are kept in --out, so that the same command resumes.
Differences are to the full model of the preset on the same capture; * marks those beyond the spread
of seeds, as in benchmarks.comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import tables
from benchmarks.common.fits import Fit, file_name, run_all
from likeness.scene.files import write_json

NO_PERCEPTUAL = "without perceptual loss"
# Preset, then what each ablation is called in its paper, and the settings that make it.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "headgas": {
        "full": (),
        "without blending": ("headgas.blending=none",),
        "change of position and rotation": ("headgas.changes=geometry",),
        "change of everything": ("headgas.changes=everything",),
        "without MLP": ("headgas.blending=parameters",),
        NO_PERCEPTUAL: ("objective.perceptual=0",),
    },
    "gaussianhead": {
        "full, K = 4": (),
        "without derivation, K = 0": ("gaussianhead.derivations=0",),
        "K = 1": ("gaussianhead.derivations=1",),
        "K = 2": ("gaussianhead.derivations=2",),
        "K = 8": ("gaussianhead.derivations=8",),
        "K = 16": ("gaussianhead.derivations=16",),
        "K by equation 12": (
            "gaussianhead.derivations=32",
            "gaussianhead.derivation_schedule=true",
        ),
        "Euclidean Adam": ("gaussianhead.derivation_kind=euclidean",),
        "shared channels": ("gaussianhead.shared_channels=true",),
        "random and fixed derivations": ("gaussianhead.derivation_kind=fixed",),
        "global rotation": ("gaussianhead.derivation_kind=scene",),
        "single scale": ("gaussianhead.scales=[1]",),
        "without tri-plane": ("gaussianhead.triplane=false",),
        "without deformation": ("gaussianhead.deformation=false",),
        NO_PERCEPTUAL: ("objective.perceptual=0",),
    },
}
# The same with the default preset's parts around it, with which minutes suffice for a sharp
# picture.
ABLATIONS["gaussianhead-plus"] = {
    name: settings for name, settings in ABLATIONS["gaussianhead"].items() if name != NO_PERCEPTUAL
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--capture", nargs="+", type=Path, required=True, metavar="DIR", help="captures to fit"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--iterations", type=int, metavar="N", help="steps of each fit, the same for all"
    )
    length.add_argument("--minutes", type=float, help="minutes of each instead (default: 10)")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 of each (default: 3)"
    )
    parser.add_argument(
        "--presets",
        nargs="+",
        choices=ABLATIONS,
        default=["headgas", "gaussianhead"],
        help="default: headgas gaussianhead",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="TEXT",
        help="only the full model and ablations with one of these in their name",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablations"), help="folder of the figures"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="common",
        metavar="KEY=VALUE",
        help="a setting of every fit",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="fits at a time (default: 1)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads of each (default: 2)"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder with the weights of VGG16 and of LPIPS"
    )
    args = parser.parse_args(arguments)
    minutes = args.minutes or (None if args.iterations else 10.0)
    perceptual, rows = has_perceptual(args.weights), []
    for capture in args.capture:
        for preset in args.presets:
            for name in chosen(preset, args.only):
                if name == NO_PERCEPTUAL and not perceptual:
                    continue
                for seed in range(args.seeds):
                    settings = (*args.common, *ABLATIONS[preset][name])
                    fit = Fit(
                        capture, preset, settings, seed, minutes, args.weights, args.iterations
                    )
                    rows.append((slug(fit, name), fit, name))
    found = run_all([(label, fit) for label, fit, _ in rows], args.out, args.jobs, args.threads)
    table = [
        {
            "clip": fit.capture_name,
            "preset": fit.preset,
            "name": name,
            "tracking": "",
            "seed": fit.seed,
            **found[label],
        }
        for label, fit, name in rows
    ]
    conditions = {
        "minutes": minutes,
        "iterations": args.iterations,
        "seeds": args.seeds,
        "jobs": args.jobs,
        "threads": args.threads,
        "settings": args.common,
        "missing": 0,
        "left_out": [],
    }
    print(markdown(table, conditions))
    if args.json:
        write_json(args.json, {**conditions, "rows": table})


def has_perceptual(folder: Path | None) -> bool:
    """Whether VGG16's weights are here, without which no fit has the perceptual loss."""
    from likeness.fitting.perceptual import VGGLoss

    return VGGLoss.create(folder=folder, download=False) is not None


def chosen(preset: str, only: list[str] | None) -> list[str]:
    """Names of a preset's ablations, the full model first."""
    first, *others = ABLATIONS[preset]
    return [first, *(name for name in others if only is None or any(text in name for text in only))]


def slug(fit: Fit, name: str) -> str:
    """The name of a fit's file."""
    return file_name(fit.capture_name, fit.preset, name, fit.length, f"seed{fit.seed}")


def markdown(rows: list[dict[str, Any]], conditions: dict[str, Any]) -> str:
    """Of each preset all figures, and what each ablation changes against its full model."""
    parts = [tables.heading(rows, conditions)]
    for preset in dict.fromkeys(row["preset"] for row in rows):
        of_preset = [row for row in rows if row["preset"] == preset]
        full, *others = dict.fromkeys(row["name"] for row in of_preset)
        compared = [tables.compare(of_preset, name, sign=1, base=full) for name in others]
        parts += [f"`{preset}`", tables.figures(of_preset)]
        parts += [tables.changes(compared, of_preset, full)] if compared else []
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
