"""Measures an avatar on frames of its capture, or of another one of the same head model.

Example: python evaluate_avatar.py runs/me-20260101-120000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import command_line
from command_line import option


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__)
    option(parser, "run", type=Path, metavar="RUN", help="run directory that fit_subject.py wrote")
    option(parser, "--frames", choices=("test", "train", "all"), default="test", help="which frames of the capture")
    option(parser, "--capture", type=Path, metavar="DIR", help="another capture [default: the run's own]")
    option(parser, "--json", type=Path, metavar="FILE", help="also write the figures, with those of every frame, here")
    command_line.add_device(parser)
    command_line.add_weights(parser)
    return parser


def main() -> None:
    args = parser().parse_args()
    device = str(command_line.device(args.device))
    from fitting.bundle import AvatarBundle
    from fitting.perceptual import LPIPS
    from fitting.run_directory import RunDirectory
    from playback.evaluation import evaluate_bundle, table
    from scene.capture import Capture
    from scene.files import write_bytes

    run = RunDirectory.open(args.run)
    bundle = AvatarBundle.load(run.bundle)
    capture = Capture.load(args.capture or run.capture)
    indices = {"test": capture.test, "train": capture.train, "all": range(len(capture.frames))}[args.frames]
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    result = evaluate_bundle(bundle, capture, indices, device=device, lpips=lpips, progress=f"measuring {args.frames}")
    print(table(result))
    if args.json:
        write_bytes(args.json, (json.dumps(result.to_json(), indent=2) + "\n").encode())


if __name__ == "__main__":
    command_line.run(main)
