"""Drives an avatar by somebody else: a video, a run or capture, an ARKit CSV of a phone, a file of
states, a webcam.

Example: likeness drive runs/me --driver friend.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.cli import command_line
from likeness.cli.command_line import number, option, positive_int, positive_number
from likeness.scene.devices import choose_device

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "drive")
    option(
        parser,
        "avatar",
        type=Path,
        metavar="RUN|BUNDLE",
        help="run directory, or the avatar's folder alone",
    )
    source = parser.add_argument_group("who drives (one of these)").add_mutually_exclusive_group(
        required=True
    )
    option(
        source,
        "--driver",
        metavar="X",
        help="video, run, capture, ARKit CSV or states (.npz), told by content",
    )
    option(
        source,
        "--webcam",
        metavar="N",
        help="live: the webcam's number (0 is the first), or a video in its place",
    )
    how = parser.add_argument_group("how")
    option(
        how,
        "--kind",
        metavar="NAME",
        help="what --driver is, where its content leaves that open: run, capture, states, arkit_csv, video",
    )
    option(
        how,
        "--fps",
        type=positive_number,
        metavar="F",
        unit="frames per second",
        help="rate in which the CSV's timecodes count frames, or of the states",
    )
    option(
        how,
        "--neutral",
        type=int,
        metavar="FRAME",
        help="number of the driver's frame at rest [default: found]",
    )
    option(
        how,
        "--strength",
        type=number,
        default=1.0,
        unit="factor",
        help="of the driver's expressions",
    )
    option(
        how,
        "--pose",
        choices=("relative", "absolute", "none"),
        default="relative",
        help="the head's motion: from its own rest, as the camera saw it, or none",
    )
    option(
        how, "--body", choices=("follow", "rest"), default="follow", help="the shoulders' motion"
    )
    option(
        how,
        "--smoothing",
        type=number,
        metavar="S",
        unit="seconds",
        help="window of smoothing for files; 0: none [default: 0.17]",
    )
    result = parser.add_argument_group("result")
    option(
        result,
        "--out",
        type=Path,
        metavar="FILE",
        help="film, the driver beside the avatar [default: for files "
        "transfer-<driver>.mp4, live a window]",
    )
    option(result, "--overwrite", action="store_true", help="replace files that are there")
    option(
        result,
        "--save-states",
        type=Path,
        metavar="FILE",
        help="also write the avatar's states (.npz)",
    )
    option(
        result,
        "--size",
        type=positive_int,
        unit="pixels",
        help="height of the film [the avatar's; live 256]",
    )
    option(
        result,
        "--frames",
        type=positive_int,
        metavar="N",
        help="stop after this number of the film's frames",
    )
    command_line.add_compile(result)
    command_line.add_device(result)
    command_line.add_weights(result)
    option(
        result,
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for captures of videos [default: runs/.captures]",
    )
    return parser


def main(words: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(words)
    for name in (
        ("save_states", "kind", "neutral", "fps", "smoothing", "cache")
        if args.webcam is not None
        else ()
    ):
        if getattr(args, name) is not None:
            options.error(f"--{name.replace('_', '-')} is for --driver, not for --webcam")
    device = str(choose_device(args.device))
    from likeness.playback.bundles import load_bundle
    from likeness.playback.films import check_film
    from likeness.playback.transfer.retarget import RetargetConfig

    if args.out is not None:
        check_film(args.out, alpha=False)
    for path in filter(None, (args.out, args.save_states)):
        _check_output(path, args.overwrite)
    bundle = load_bundle(args.avatar)
    config = RetargetConfig(args.strength, args.pose, args.body)
    (_live if args.webcam is not None else _from_file)(args, bundle, config, device)


def _from_file(args: argparse.Namespace, bundle: AvatarBundle, config: Any, device: str) -> None:
    from likeness.playback.drivers import DriverOptions, open_driver
    from likeness.playback.player import Player
    from likeness.playback.state_file import save_states
    from likeness.playback.transfer.running import SMOOTHING_S, rows, transfer
    from likeness.scene.foreign_paths import folder_name

    settings = DriverOptions(
        args.fps, args.cache, args.weights, not args.offline, device, progress=True
    )
    driver = open_driver(args.driver, bundle, settings, args.kind)
    out = args.out or Path(f"transfer-{folder_name(Path(driver.name).stem)}.mp4")
    _check_output(out, args.overwrite)
    smoothing_s = SMOOTHING_S if args.smoothing is None else args.smoothing
    states = transfer(bundle, driver, config, neutral=args.neutral, smoothing_s=smoothing_s)
    if args.save_states:
        save_states(
            args.save_states, states, driver.fps, bundle.expression_names, bundle.joint_names
        )
        print(f"states: {args.save_states}")
    size = args.size or bundle.default_camera.height
    player = Player(bundle, device, compile=args.compile)
    _write(out, rows(player, driver, states, size, "rendering"), driver.fps, args.frames)


def _live(args: argparse.Namespace, bundle: AvatarBundle, config: Any, device: str) -> None:
    from likeness.playback.drivers import open_driver
    from likeness.playback.player import Player
    from likeness.playback.transfer.running import at_rate, live_rows, until_interrupted
    from likeness.playback.window import has_screen, show
    from likeness.scene.errors import UserError

    if args.out is None and not has_screen():
        raise UserError(
            f"--webcam {args.webcam}: no screen here for a window; write a film with --out FILE"
        )
    driver = open_driver(args.webcam, bundle, kind="webcam")
    player = Player(bundle, device, compile=args.compile)
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
