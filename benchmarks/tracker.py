"""Tracking of videos (landmark error, what pictures change, cost) and of made people (error against the truth).

python benchmarks/tracker.py --videos a.mp4 b.mp4 --demos 1
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CURVES = ("blink", "smile", "jaw", "brows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="*", default=[], type=Path, metavar="FILE", help="videos to track")
    parser.add_argument(
        "--demos", type=int, default=1, metavar="N", help="made people, of seeds 0 to N - 1 (default: 1)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/tracker"), help="folder of captures (default: runs/tracker)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args()

    import command_line

    command_line.set_up_environment()
    rows = [on_video(video, args.out) for video in args.videos]
    made = [on_demo(seed, args.out) for seed in range(args.demos)]
    print(markdown(rows, made))
    if args.json:
        args.json.write_text(json.dumps({"videos": rows, "demos": made}, indent=2) + "\n")


def on_video(video: Path, out: Path) -> dict[str, Any]:
    """What the capture's own report says of the tracking."""
    from preprocess.pipeline import find_or_build

    capture = find_or_build(video, out / "captures", download=False)
    frames, seconds = len(capture.frames), capture.report["seconds"]
    return {
        "video": video.stem,
        "frames": frames,
        "residual_percent": capture.report["tracking"]["residual_percent"],
        "photometric": capture.report["photometric"],
        "saturated": capture.report["tracking"]["saturated"],
        "tracking_s_per_100": 100 * seconds["tracking"] / frames,
        "landmarks_s_per_100": 100 * seconds["landmarks"] / frames,
        "picture_s_per_100": 100 * seconds["picture tracking"] / frames,
        "mattes_s_per_100": 100 * seconds["frames"] / frames,
    }


def on_demo(seed: int, out: Path) -> dict[str, Any]:
    """The errors of a made person's capture, beside what its report says."""
    from preprocess.demo_subject.errors import errors
    from preprocess.demo_subject.truth import make_demo
    from preprocess.pipeline import find_or_build

    truth = make_demo(out / f"demo{seed}", seed=seed)
    capture = find_or_build(truth.video, out / "captures", download=False)
    return {"seed": seed, **on_video(truth.video, out), "truth": errors(truth, capture)}


def markdown(rows: list[dict[str, Any]], made: list[dict[str, Any]]) -> str:
    """Two tables."""
    lines = [
        "Error of the landmark tracker: RMSE of the 478 projected landmarks in % of the outer eye-corner distance.",
        "Turned: rotation of the heads by the picture. Saturated: frames with a coefficient of 0.99 or more. All times",
        "are seconds per 100 frames.",
        "",
        "| video | frames | median % | 95th | turned ° | as by landmarks | saturated | landmarks | tracking | mattes "
        "| by the picture |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in (*rows, *made):
        name = row["video"] if "seed" not in row else f"made person {row['seed']}"
        residual = row["residual_percent"]
        by_picture = row["photometric"]
        lines.append(
            f"| {name} | {row['frames']} | {residual['median']:.2f} | {residual['p95']:.2f} "
            f"| {by_picture['rotation_deg']['median']:.2f} | {len(by_picture['fallen_back'])} "
            f"| {100 * row['saturated']:.1f}% | {row['landmarks_s_per_100']:.1f} | {row['tracking_s_per_100']:.1f} "
            f"| {row['mattes_s_per_100']:.1f} | {row['picture_s_per_100']:.1f} |"
        )
    if made:
        lines += [
            "",
            "| made person | rotation ° median | 95th | without constant offset | correlation of "
            + " | ".join(CURVES) + " |",
            "|---|---|---|---|" + "---|" * len(CURVES),
        ]  # fmt: skip
    for row in made:
        rotation, curves = row["truth"]["rotation_deg"], row["truth"]["expressions"]
        cells = [f"{rotation['median']:.2f}", f"{rotation['p95']:.2f}", f"{rotation['without_offset']['median']:.2f}"]
        cells += ["–" if curves[name] is None else f"{curves[name]:.2f}" for name in CURVES]
        lines.append(f"| {row['seed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
