"""Measures an avatar on frames of its capture, or of another one of the same head model; or how
well it reenacts a driver.

Examples: likeness evaluate runs/me-20260101-120000
          likeness evaluate runs/me-20260101-120000 --driver friend.mp4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from likeness.cli import command_line
from likeness.cli.command_line import COUNT, DIR, FILE, RUN, option
from likeness.scene.devices import choose_device


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "evaluate")
    option(parser, "run", **RUN, help="run directory of likeness fit")
    text = "which frames of the capture [default: test]"
    option(parser, "--frames", choices=("test", "train", "all"), help=text)
    option(parser, "--capture", **DIR, help="another capture [default: the run's own]")
    text = "also write the figures, with those of every frame, to this file"
    option(parser, "--json", **FILE, help=text)
    option(
        parser,
        "--tracking-gain",
        **COUNT,
        help="also optimize poses and expressions of N of these frames on their own images, and "
        "report the gain: a diagnostic of the tracking, never a result",
    )
    command_line.add_coarse(parser)
    command_line.add_device(parser)
    command_line.add_weights(parser)
    driven = parser.add_argument_group("reenactment (CSIM, AED, APD, AKD instead of the above)")
    command_line.add_driver(driven, driven)
    text = "ArcFace-class network (ONNX) for CSIM; without it CSIM is not measured"
    option(driven, "--identity-model", **FILE, help=text)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(words)
    measuring = ("frames", "capture", "tracking_gain")
    driving = ("kind", "fps", "neutral", "identity_model", "cache")
    unread, word = (measuring, "with") if args.driver else (driving, "without")
    for name in unread:
        if getattr(args, name) is not None:
            options.error(f"--{name.replace('_', '-')} has no meaning {word} --driver")
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
    everything = range(len(capture.frames))
    indices = {"test": capture.test, "train": capture.train, "all": everything}[frames]
    if not indices:
        raise UserError(
            f"{capture.root}: nothing of it is held out; --frames train measures on what the "
            "avatar was made from, --capture DIR on other frames of the same person"
        )
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    figures = evaluate_frames(
        bundle, capture, indices, device=device, lpips=lpips, progress=f"measuring {frames}"
    )
    print(table(figures))
    if args.tracking_gain:
        chosen = evenly(indices, args.tracking_gain)
        text = "diagnosing the tracking"
        gain = summary(tracking_gain(bundle, capture, chosen, device=device, progress=text))
        figures["tracking_gain"] = gain
        print(
            f"tracking gain on {len(chosen)} frames (a diagnostic): poses {gain['poses']:+.2f} dB, "
            f"with expressions {gain['poses_and_expressions']:+.2f} dB"
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
