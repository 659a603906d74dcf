"""Makes a capture of a video, the first stage of likeness fit. Fit it later with likeness fit
--capture.

Example: likeness preprocess me.mp4 --out captures/me
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line, many_subjects
from likeness.cli.command_line import COUNT, DIR, FILE, option
from likeness.scene.devices import choose_device

if TYPE_CHECKING:
    from likeness.scene.capture import Capture


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "preprocess")
    text = "video of one person's head and shoulders"
    option(parser, "video", type=Path, metavar="VIDEO", help=text)
    text = "folder of the capture; unfinished work in it is resumed"
    option(parser, "--out", **DIR, required=True, help=text)
    command_line.add_preprocessing(parser)
    text = "use at most this number of frames of longer videos, chosen for variety"
    option(parser, "--max-frames", **COUNT, default=2000, help=text)
    text = "refuse videos with a smaller number of usable frames"
    option(parser, "--min-frames", **COUNT, default=30, help=text)
    command_line.add_device(parser)
    command_line.add_weights(parser)
    limits = parser.add_argument_group("limits (none by default)")
    many_subjects.add_limits(limits)
    text = "write figures, or why the video was refused, to this file (JSON)"
    option(limits, "--result", **FILE, help=text)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    args = parser().parse_args(words)
    command_line.resume_with("the same command resumes")
    device = str(choose_device(args.device))
    from likeness.preprocess.acceptance import Limits
    from likeness.preprocess.pipeline import PreprocessConfig, build_capture
    from likeness.scene.errors import UnusableVideo
    from likeness.scene.files import write_json

    settings = PreprocessConfig(
        max_frames=args.max_frames, min_frames=args.min_frames, **command_line.preprocessing(args)
    )
    try:
        capture = build_capture(
            args.video,
            args.out,
            settings,
            device=device,
            weights=args.weights,
            download=not args.offline,
            limits=Limits(**many_subjects.limits(args)),
        )
    except UnusableVideo as error:
        if args.result is not None:
            write_json(
                args.result, {"refused": " ".join(str(error).split()), "reason": error.reason}
            )
        raise
    if args.result is not None:
        write_json(args.result, _figures(capture))
    print(f"capture: {args.out} ({len(capture.frames)} frames)")


def _figures(capture: Capture) -> dict:
    """What a collection wants to know of a capture; plain JSON values."""
    from likeness.preprocess.acceptance import of_report

    frames, tracking = capture.report["frames"], capture.report["tracking"]
    spans = {name: tracking["pose_degrees"][name] for name in ("yaw", "pitch")}
    return {
        **of_report(capture.report),
        "frames": len(capture.frames),
        "seen": frames["seen"],
        "used_seconds": frames["used_seconds"],
        "most_faces": frames["most_faces"],
        "dropped": frames["dropped"],
        **{f"{name}_degrees": round(span["p95"] - span["p5"], 1) for name, span in spans.items()},
        "seconds": capture.report["seconds"],
        "warnings": [warning["what"] for warning in capture.report["warnings"]],
    }
