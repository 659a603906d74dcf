"""Measures an avatar on frames of its capture, or of another one of the same head model; or what a
driver makes of it.

Examples: likeness evaluate runs/me-20260101-120000
          likeness evaluate runs/me-20260101-120000 --driver friend.mp4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from likeness.cli import command_line
from likeness.cli.command_line import option, positive_int, positive_number
from likeness.scene.devices import choose_device


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "evaluate")
    option(parser, "run", type=Path, metavar="RUN", help="run directory that fit_subject.py wrote")
    option(
        parser,
        "--frames",
        choices=("test", "train", "all"),
        help="which frames of the capture [default: test]",
    )
    option(
        parser,
        "--capture",
        type=Path,
        metavar="DIR",
        help="another capture [default: the run's own]",
    )
    option(
        parser,
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the figures, with those of every frame, here",
    )
    option(
        parser,
        "--tracking-gain",
        type=positive_int,
        metavar="N",
        help="also optimise poses and expressions of N of these frames on their own pictures, and say what that "
        "gains: a diagnostic of the tracking, never a result",
    )
    command_line.add_coarse(parser)
    command_line.add_device(parser)
    command_line.add_weights(parser)
    driven = parser.add_argument_group(
        "reenactment (CSIM, AED, APD, AKD instead of the metrics above)"
    )
    option(
        driven,
        "--driver",
        metavar="X",
        help="video, run, capture, ARKit CSV or states (.npz), told by content",
    )
    option(
        driven,
        "--kind",
        metavar="NAME",
        help="what --driver is: run, capture, states, arkit_csv, video",
    )
    option(
        driven,
        "--fps",
        type=positive_number,
        metavar="F",
        unit="frames per second",
        help="rate in which the CSV's timecodes count frames, or of the states",
    )
    option(
        driven,
        "--neutral",
        type=int,
        metavar="FRAME",
        help="number of the driver's frame at rest [default: found]",
    )
    option(
        driven,
        "--identity-model",
        type=Path,
        metavar="FILE",
        help="ArcFace-class network (ONNX) for CSIM; without it CSIM is not measured",
    )
    option(
        driven,
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for captures of videos [default: runs/.captures]",
    )
    return parser


def main(words: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(words)
    measuring, driving = (
        ("frames", "capture", "tracking_gain"),
        ("kind", "fps", "neutral", "identity_model", "cache"),
    )
    for name in measuring if args.driver else driving:
        if getattr(args, name) is not None:
            options.error(
                f"--{name.replace('_', '-')} has no meaning {'with' if args.driver else 'without'} --driver"
            )
    device = str(choose_device(args.device))
    if args.json:
        from likeness.scene.files import check_writable

        check_writable(args.json)
    if args.driver:
        return _reenactment(args, device)
    from likeness.fitting.bundle import AvatarBundle
    from likeness.fitting.perceptual import LPIPS
    from likeness.fitting.run_directory import RunDirectory
    from likeness.playback.evaluation import evaluate_frames, evenly, table
    from likeness.playback.tracking_gain import summary, tracking_gain
    from likeness.scene.capture import Capture
    from likeness.scene.errors import UserError
    from likeness.scene.files import write_bytes

    run = RunDirectory.open(args.run)
    bundle = AvatarBundle.load(run.bundle)
    bundle = bundle.coarse() if args.coarse else bundle
    capture = Capture.load(args.capture or run.capture)
    frames = args.frames or "test"
    indices = {"test": capture.test, "train": capture.train, "all": range(len(capture.frames))}[
        frames
    ]
    if not indices:
        raise UserError(
            f"{capture.root}: nothing of it is held out; --frames train measures on what the avatar was made from, "
            "--capture DIR on other frames of the same person"
        )
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    figures = evaluate_frames(
        bundle, capture, indices, device=device, lpips=lpips, progress=f"measuring {frames}"
    )
    print(table(figures))
    if args.tracking_gain:
        chosen = evenly(indices, args.tracking_gain)
        gains = tracking_gain(
            bundle, capture, chosen, device=device, progress="diagnosing the tracking"
        )
        figures["tracking_gain"] = found = summary(gains)
        print(
            f"tracking gain on {len(chosen)} frames (a diagnostic): poses {found['poses']:+.2f} dB, "
            f"with expressions {found['poses_and_expressions']:+.2f} dB"
        )
    if args.json:
        write_bytes(args.json, (json.dumps(figures, indent=2) + "\n").encode())


def _reenactment(args: argparse.Namespace, device: str) -> None:
    from likeness.fitting.bundle import AvatarBundle
    from likeness.fitting.run_directory import RunDirectory
    from likeness.playback.drivers import DriverOptions, open_driver
    from likeness.playback.transfer.identity import IdentityModel
    from likeness.playback.transfer.reenactment import measure, table
    from likeness.scene.files import write_json

    run = RunDirectory.open(args.run)
    bundle = AvatarBundle.load(run.bundle)
    bundle = bundle.coarse() if args.coarse else bundle
    identity = None if args.identity_model is None else IdentityModel(args.identity_model)
    settings = DriverOptions(
        args.fps, args.cache, args.weights, not args.offline, device, progress=True
    )
    driver = open_driver(args.driver, bundle, settings, args.kind)
    figures = measure(
        run.root,
        bundle,
        driver,
        identity=identity,
        neutral=args.neutral,
        device=device,
        progress=True,
    )
    print(table(figures))
    if args.json:
        write_json(args.json, figures)
