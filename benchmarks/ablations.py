"""The ablations of both papers on the same captures in one run, with equal minutes.

    python benchmarks/ablations.py --capture runs/me-.../capture --minutes 10 --seeds 3 --out runs/ablations

Every fit is an ordinary run of fit_subject.py in its own folder; finished ones are kept, so that the benchmark goes on
where it was stopped. In brackets the difference to the paper's own model on the same capture, mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runs import run  # noqa: E402

# Preset, then what each ablation is called in its paper, and the settings that make it.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "headgas": {
        "full": (),
        "without blending": ("headgas.blending=none",),
        "change of position and rotation": ("headgas.changes=geometry",),
        "change of everything": ("headgas.changes=all",),
        "without MLP": ("headgas.blending=parameters",),
        "without perceptual loss": ("objective.perceptual=0",),
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
        "without perceptual loss": ("objective.perceptual=0",),
    },
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
    parser.add_argument("--presets", nargs="+", choices=ABLATIONS, default=list(ABLATIONS), help="default: both")
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only the full model and ablations with one of these in their name"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="folder of the runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("rest", nargs="*", help="further options for fit_subject.py, after --")
    args = parser.parse_args()
    rows = []
    for capture in args.capture:
        for preset in args.presets:
            for name in chosen(preset, args.only):
                for seed in range(args.seeds):
                    rows.append(fit(capture, preset, name, seed, args.minutes, args.out, args.rest))
                    print(f"{rows[-1]['capture']} {preset} {name} seed {seed}: {rows[-1]['psnr']:.2f} dB",
                          file=sys.stderr, flush=True)  # fmt: skip
    print(markdown(rows, args.minutes, args.seeds))
    if args.json:
        args.json.write_text(json.dumps({"minutes": args.minutes, "rows": rows}, indent=2) + "\n")


def chosen(preset: str, only: list[str] | None) -> list[str]:
    """Names of a preset's ablations, the full model first."""
    first, *others = ABLATIONS[preset]
    return [first, *(name for name in others if only is None or any(text in name for text in only))]


def fit(
    capture: Path, preset: str, name: str, seed: int, minutes: float, out: Path, rest: list[str]
) -> dict[str, Any]:
    """The figures of one fit."""
    root = capture.absolute()
    label = root.parent.name if root.name == "capture" else root.name
    slug = "".join(character if character.isalnum() else "_" for character in name)
    options = ["--capture", str(capture), "--preset", preset, "--minutes", str(minutes), "--seed", str(seed)]
    for setting in ABLATIONS[preset][name]:
        options += ["--set", setting]
    figures = run(out / f"{label}-{preset}-{slug}-{minutes:g}min-seed{seed}", [*options, *rest])
    return {"capture": label, "preset": preset, "ablation": name, "seed": seed, **figures}


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
