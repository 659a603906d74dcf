"""Drives an avatar by a video, a run or capture, an ARKit CSV of a phone, a file of head states,
a webcam.

Example: likeness drive runs/me --driver friend.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.cli import command_line
from likeness.cli.command_line import COUNT, FILE, FLAG, SECONDS, number, option, positive_int
from likeness.scene.devices import choose_device

if TYPE_CHECKING:
    from likeness.avatar import Avatar
    from likeness.playback.transfer.retarget import RetargetConfig


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "drive")
    text = "run directory of likeness fit, or a bundle"
    option(parser, "avatar", type=Path, metavar="RUN|BUNDLE", help=text)
    sources = parser.add_argument_group("driver (one of these)")
    source = sources.add_mutually_exclusive_group(required=True)
    how = parser.add_argument_group("transfer")
    command_line.add_driver(source, how)
    text = "live: number of the webcam (0 is the first), or a video in its place"
    option(source, "--webcam", metavar="N", help=text)
    text = "strength of the driver's expressions"
    option(how, "--strength", type=number, default=1.0, metavar="X", unit="factor", help=text)
    option(
        how,
        "--pose",
        choices=("relative", "absolute", "none"),
        default="relative",
        help="the head's motion: relative to its own rest pose, as the camera saw it, or none",
    )
    text = "the shoulders' motion"
    option(how, "--body", choices=("follow", "rest"), default="follow", help=text)
    text = "window of smoothing for files; 0: none [default: 0.17]"
    option(how, "--smoothing", **SECONDS, help=text)
    result = parser.add_argument_group("result")
    option(
        result,
        "--out",
        **FILE,
        help="film of the driver beside the avatar [default: transfer-<driver>.mp4; live a window]",
    )
    option(result, "--overwrite", **FLAG, help="replace existing files")
    option(result, "--save-states", **FILE, help="also write the avatar's states (.npz)")
    text = "height of the film [default: the avatar's; live 256]"
    option(result, "--size", type=positive_int, unit="pixels", help=text)
    option(result, "--frames", **COUNT, help="stop after this number of frames")
    command_line.add_compile(result)
    command_line.add_device(result)
    command_line.add_weights(result)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(words)
    of_files = ("save_states", "kind", "neutral", "fps", "smoothing", "cache")
    for name in of_files:
        if args.webcam is not None and getattr(args, name) is not None:
            options.error(f"--{name.replace('_', '-')} is for --driver, not for --webcam")
    choose_device(args.device)
    from likeness.avatar import Avatar
    from likeness.playback.films import check_film
    from likeness.playback.transfer.retarget import RetargetConfig

    if args.out is not None:
        check_film(args.out, alpha=False)
    for path in filter(None, (args.out, args.save_states)):
        _check_output(path, args.overwrite)
    avatar = Avatar.load(args.avatar, args.device)
    config = RetargetConfig(args.strength, args.pose, args.body)
    (_from_file if args.webcam is None else _live)(args, avatar, config)


def _from_file(args: argparse.Namespace, avatar: Avatar, config: RetargetConfig) -> None:
    from likeness.playback.drivers import DriverOptions
    from likeness.playback.player import Player
    from likeness.playback.state_file import save_states
    from likeness.playback.transfer.running import SMOOTHING_S, rows
    from likeness.scene.foreign_paths import folder_name

    bundle = avatar.bundle
    out = args.out or Path(f"transfer-{folder_name(Path(args.driver).stem)}.mp4")
    _check_output(out, args.overwrite)
    recording = avatar.drive(
        args.driver,
        args.kind,
        retarget=config,
        neutral=args.neutral,
        smoothing_s=SMOOTHING_S if args.smoothing is None else args.smoothing,
        options=DriverOptions(args.fps, args.cache, args.weights, not args.offline, progress=True),
    )
    if args.save_states:
        names = bundle.expression_names, bundle.joint_names
        save_states(args.save_states, recording.states, recording.fps, *names)
        print(f"states: {args.save_states}")
    player = Player(bundle, avatar.device, compile=args.compile)
    size = args.size or bundle.default_camera.height
    images = rows(player, recording, recording.states, size, "rendering")
    _write(out, images, recording.fps, args.frames)


def _live(args: argparse.Namespace, avatar: Avatar, config: RetargetConfig) -> None:
    from likeness.playback.drivers import open_driver
    from likeness.playback.player import Player
    from likeness.playback.transfer.running import at_rate, live_rows, until_interrupted
    from likeness.playback.window import has_screen, show
    from likeness.scene.errors import UserError

    if args.out is None and not has_screen():
        raise UserError(
            f"--webcam {args.webcam}: no screen here for a window; write a film with --out FILE"
        )
    driver = open_driver(args.webcam, avatar.bundle, kind="webcam")
    player = Player(avatar.bundle, avatar.device, compile=args.compile)
    rows = live_rows(player, driver, args.size or 256, config)
    if args.out is None:
        show(row.images for row in rows)
    else:
        _write(args.out, until_interrupted(at_rate(rows, driver.fps)), driver.fps, args.frames)


def _check_output(path: Path, overwrite: bool) -> None:
    """Raises UserError for what is there and not to be replaced, and where nothing can be
    written."""
    from likeness.scene.errors import UserError
    from likeness.scene.files import check_writable

    if path.is_dir():
        raise UserError(f"{path}: is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another name, or give --overwrite")
    check_writable(path)


def _write(out: Path, pictures: Any, fps: float, most: int | None) -> None:
    import itertools

    from likeness.playback.transfer.running import write_film

    write_film(out, itertools.islice(pictures, most), fps)
    print(f"film: {out}")
