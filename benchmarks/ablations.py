"""The ablations of both papers on the same captures in one run, with equal minutes.

    python benchmarks/ablations.py --capture runs/me-.../capture --minutes 10 --seeds 3 --out runs/ablations

Every fit has its own process; finished ones are kept in --out, so that the benchmark goes on where it was stopped. In
brackets the difference to the paper's own model on the same capture, mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fits import Fit, file_name, run_all  # noqa: E402

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
# The same with the default preset's parts around it, with which minutes suffice for a sharp picture.
ABLATIONS["gaussianhead-plus"] = {
    name: settings for name, settings in ABLATIONS["gaussianhead"].items() if name != NO_PERCEPTUAL
}
COLUMNS = {
    "l1": "L1", "psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "mouth": "mouth", "eyes": "eyes",
    "steps_per_s": "steps/s", "peak_memory_gb": "peak GB", "bundle_mb": "bundle MB",
}  # fmt: skip
DIGITS = {"l1": 4, "ssim": 3, "lpips": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", nargs="+", type=Path, required=True, metavar="DIR", help="captures to fit")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of each fit (default: 10)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 of each (default: 1)")
    parser.add_argument(
        "--presets", nargs="+", choices=ABLATIONS, default=["headgas", "gaussianhead"],
        help="default: headgas gaussianhead",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only the full model and ablations with one of these in their name"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="folder of the figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--set", action="append", default=[], dest="common", metavar="KEY=VALUE", help="a setting of every fit"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="fits at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each (default: 2)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with the weights of VGG16 and of LPIPS")
    args = parser.parse_args()
    perceptual, rows = has_perceptual(args.weights), []
    for capture in args.capture:
        for preset in args.presets:
            for name in chosen(preset, args.only):
                if name == NO_PERCEPTUAL and not perceptual:
                    continue
                for seed in range(args.seeds):
                    settings = (*args.common, *ABLATIONS[preset][name])
                    fit = Fit(capture, preset, settings, seed, args.minutes, args.weights)
                    rows.append((slug(fit, name), fit, name))
    found = run_all([(label, fit) for label, fit, _ in rows], args.out, args.jobs, args.threads)
    table = [
        {"capture": fit.capture_name, "preset": fit.preset, "ablation": name, "seed": fit.seed, **found[label]}
        for label, fit, name in rows
    ]
    print(markdown(table, args.minutes, args.seeds))
    if args.common:
        print(f"\nAll with {', '.join(args.common)}.")
    if not perceptual:
        print("\nWithout the perceptual loss throughout: VGG16's weights are not here (--weights DIR).")
    if args.json:
        args.json.write_text(json.dumps({"minutes": args.minutes, "rows": table}, indent=2) + "\n")


def has_perceptual(folder: Path | None) -> bool:
    """Whether VGG16's weights are here, without which no fit has the perceptual loss."""
    from fitting.perceptual import VGGLoss

    return VGGLoss.create(folder=folder, download=False) is not None


def chosen(preset: str, only: list[str] | None) -> list[str]:
    """Names of a preset's ablations, the full model first."""
    first, *others = ABLATIONS[preset]
    return [first, *(name for name in others if only is None or any(text in name for text in only))]


def slug(fit: Fit, name: str) -> str:
    """The name of a fit's file."""
    return file_name(fit.capture_name, fit.preset, name, f"{fit.minutes:g}min", f"seed{fit.seed}")


def markdown(rows: list[dict[str, Any]], minutes: float, seeds: int) -> str:
    """One table; the differences of L1 to LPIPS and of the regions are to the full model."""
    lines = [
        f"Held-out figures after {minutes:g} minutes of fitting, mean over {seeds} seed(s).",
        "",
        "| capture | preset | ablation | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["capture"], row["preset"], row["ablation"]), []).append(row)
    means = {key: {name: _mean(group, name) for name in COLUMNS} for key, group in groups.items()}
    for (capture, preset, name), values in means.items():
        full = means[capture, preset, next(iter(ABLATIONS[preset]))]
        cells = [_cell(column, values[column], None if values is full else full[column]) for column in COLUMNS]
        lines.append("| " + " | ".join([capture, preset, name, *cells]) + " |")
    return "\n".join(lines)


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return statistics.fmean(values) if values else None


def _cell(name: str, value: float | None, full: float | None) -> str:
    if value is None:
        return "–"
    digits = DIGITS.get(name, 1)
    change = f" ({value - full:+.{digits}f})" if full is not None and name in ("psnr", "mouth", "eyes") else ""
    return f"{value:.{digits}f}{change}"


if __name__ == "__main__":
    main()
