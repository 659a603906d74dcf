"""Presets against each other on the same videos with equal minutes: held-out figures of whole runs.

    python benchmarks/presets.py --videos a.mp4 b.mp4 --presets default headgas --minutes 10 --out runs/presets

Every fit is an ordinary run of fit_subject.py in its own folder; finished ones are kept, so that the benchmark goes on
where it was stopped. Differences are against the first preset, on the same capture.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runs import REGIONS, run  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="+", type=Path, required=True, metavar="FILE", help="videos to fit")
    parser.add_argument(
        "--presets", nargs="+", default=["default", "headgas"], metavar="NAME", help="presets to compare"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of each fit (default: 10)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the fits (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/presets"), help="folder of the runs (default: runs/presets)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("rest", nargs="*", help="further options for fit_subject.py, after --")
    args = parser.parse_args()
    rows = []
    for video in args.videos:
        for preset in args.presets:
            for seed in args.seeds:
                rows.append(fit(video, preset, seed, args.minutes, args.out, args.rest))
                print(
                    f"{rows[-1]['video']} {preset} seed {seed}: {rows[-1]['psnr']:.2f} dB", file=sys.stderr, flush=True
                )
    print(markdown(rows, args.presets[0], args.minutes))
    if args.json:
        args.json.write_text(json.dumps({"minutes": args.minutes, "rows": rows}, indent=2) + "\n")


def fit(video: Path, preset: str, seed: int, minutes: float, out: Path, rest: list[str]) -> dict[str, Any]:
    """The figures of one fit, which is made unless it is there."""
    folder = out / f"{video.stem}-{Path(preset).stem}-{minutes:g}min-seed{seed}"
    options = ["--video", str(video), "--preset", preset, "--minutes", str(minutes), "--seed", str(seed), *rest]
    return {"video": video.stem, "preset": Path(preset).stem, "seed": seed, **run(folder, options)}


def markdown(rows: list[dict[str, Any]], first: str, minutes: float) -> str:
    """The table; in brackets the difference to the first preset on the same video and seed."""
    lines = [
        f"Held-out PSNR in dB after {minutes:g} minutes; `without expressions`: the baseline of the first preset.",
        "",
        "| video | preset | full | SSIM | face | mouth | eyes | inside | train | Gaussians | steps | peak GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    references = {(row["video"], row["seed"]): row for row in rows if row["preset"] == Path(first).stem}
    for row in rows:
        reference = references[row["video"], row["seed"]]

        psnr, *regions = [_compared(row, reference, name) for name in ("psnr", *REGIONS)]
        cells = [row["video"], row["preset"], psnr, f"{row['ssim']:.3f}", *regions]
        cells += [f"{row['train']:.1f}", str(row["num_gaussians"]), str(row["steps"]), str(row["peak_memory_gb"])]
        lines.append("| " + " | ".join(cells) + " |")
        if row is reference:
            base = row["baseline"]
            cells = [
                row["video"],
                "without expressions",
                f"{base['psnr']:.1f}",
                "",
                *(f"{base[n]:.1f}" for n in REGIONS),
            ]
            lines.append("| " + " | ".join([*cells, "", "", "", ""]) + " |")
    return "\n".join(lines)


def _compared(row: dict[str, Any], reference: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "–"
    change = "" if row is reference else f" ({row[name] - reference[name]:+.1f})"
    return f"{row[name]:.1f}{change}"


if __name__ == "__main__":
    main()
