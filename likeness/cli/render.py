"""Renders an avatar from new views, with any expression of its recording or of your own.

Examples:
  likeness render runs/me --trajectory orbit --out orbit.mp4
  likeness render runs/me --sequence --trajectory spiral --background transparent --out me.webm
  likeness render runs/me --trajectory grid --yaws -30 0 30 --expression smile=0.7 --out smile.png
  likeness render runs/me --path path.json --depth --normals --size 1024 --out frames

docs/formats.md describes camera paths (.json) and head states (.npz).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.cli import command_line
from likeness.cli.command_line import FILE, FLAG, number, option, positive_number
from likeness.scene.devices import choose_device

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle
    from likeness.playback.chosen_states import ChosenStates
    from likeness.playback.views.rendering import Shot

_SECONDS = 4.0
# Which of the options that describe a movement a trajectory uses; a path uses none of them.
_USES = {
    "still": {"around", "fov", "distance"},
    "orbit": {"around", "fov", "distance", "yaw", "seconds"},
    "spiral": {"around", "fov", "distance", "yaw", "pitch", "seconds"},
    "grid": {"around", "fov", "distance", "yaws", "pitches"},
    "path": set(),
}


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "render")
    text = "run directory of likeness fit, or a bundle"
    option(parser, "avatar", type=Path, metavar="RUN|BUNDLE", help=text)
    option(
        parser,
        "--out",
        type=Path,
        metavar="PATH",
        help="film (.mp4; .webm also transparent), one image (.png), or a folder for PNG images, "
        "which the same command resumes when interrupted "
        "[default: views/NAME-TRAJECTORY.mp4, or .png for one moment]",
    )
    text = "replace what this command wrote there before"
    option(parser, "--overwrite", **FLAG, help=text)
    command_line.add_states(parser.add_argument_group("what the avatar does"))
    _add_cameras(parser.add_argument_group("where the camera stands"))
    image = parser.add_argument_group("the image")
    text = "width, and height if of another shape [default: the recording's, or the camera path's]"
    option(image, "--size", type=_size, metavar="W[xH]", unit="pixels", help=text)
    text = "#rrggbb, the name of a colour, transparent, or an image file"
    option(image, "--background", default="white", metavar="B", help=text)
    text = "also depth images, in a folder or beside a .png; with .npy arrays"
    option(image, "--depth", **FLAG, help=text)
    text = "also the normals of the surface given by the depth"
    option(image, "--normals", **FLAG, help=text)
    text = "do not clamp views beyond the recording's to what it supports"
    option(image, "--extrapolate", **FLAG, help=text)
    command_line.add_coarse(image)
    command_line.add_compile(parser)
    command_line.add_device(parser)
    return parser


def _add_cameras(group: argparse._ArgumentGroup) -> None:
    way = group.add_mutually_exclusive_group()
    trajectories = ("still", "orbit", "spiral", "grid")
    text = "angles about the head, from where the recording's camera stood"
    option(way, "--trajectory", choices=trajectories, default="orbit", help=text)
    option(way, "--path", **FILE, help="camera path (.json)")
    option(
        group,
        "--around",
        choices=("rest", "frame", "head"),
        help="centre of the trajectory: the head at its mean pose, at the first frame, or at every "
        "frame [default: rest]",
    )
    extent = {"type": _extent, "metavar": "A", "unit": "degrees"}
    text = "how far an orbit or spiral goes to the sides; 180 goes all the way round [default: 30]"
    option(group, "--yaw", **extent, help=text)
    option(group, "--pitch", **extent, help="how far a spiral goes up and down [default: 15]")
    angles = {"type": _angle, "nargs": "+", "metavar": "A", "unit": "degrees"}
    text = "columns of the grid, to the subject's left [default: -30 -15 0 15 30]"
    option(group, "--yaws", **angles, help=text)
    option(group, "--pitches", **angles, help="rows of the grid, upwards [default: 0]")
    seconds = {"type": positive_number, "metavar": "S", "unit": "seconds"}
    text = f"length of one movement of an orbit or spiral [default: {_SECONDS:g}]"
    option(group, "--seconds", **seconds, help=text)
    lens = {"type": _fov, "metavar": "A", "unit": "degrees"}
    text = "horizontal field of view from the same place [default: the recording's]"
    option(group, "--fov", **lens, help=text)
    metres = {"type": positive_number, "metavar": "M", "unit": "metres"}
    text = "distance from the middle of the head [default: the recording's]"
    option(group, "--distance", **metres, help=text)


def main(words: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(words)
    way = "path" if args.path else args.trajectory
    for name in sorted(set().union(*_USES.values()) - _USES[way]):
        if getattr(args, name) is not None:
            options.error(
                f"--{name}: has no meaning with --{'path' if args.path else f'trajectory {way}'}"
            )
    if args.sequence is None and (args.start is not None or args.end is not None):
        options.error("--start and --end need --sequence")
    device = str(choose_device(args.device))
    from tqdm import tqdm

    from likeness.playback.bundles import load_bundle
    from likeness.playback.player import Player
    from likeness.playback.views.backgrounds import Background
    from likeness.playback.views.files import check_output, write_views
    from likeness.playback.views.rendering import ViewRenderer

    bundle = load_bundle(args.avatar)
    background = Background(args.background)
    chosen = command_line.states(args, bundle)
    shots, fps = _shots(args, bundle, chosen)
    out = (
        args.out
        or Path("views")
        / f"{args.avatar.resolve().name}-{way}.{'mp4' if len(shots) > 1 else 'png'}"
    )
    check_output(out, shots, background.transparent, args.overwrite)
    renderer = ViewRenderer(
        Player(bundle, device, refine=not args.coarse, compile=args.compile),
        background,
        depth=args.depth,
        normals=args.normals,
        extrapolate=args.extrapolate,
    )
    written = write_views(
        out,
        shots,
        renderer,
        fps,
        overwrite=args.overwrite,
        progress=lambda items: tqdm(items, desc="rendering", unit="frame", total=len(shots)),
    )
    for path in written:
        print(path)


def _shots(
    args: argparse.Namespace, bundle: AvatarBundle, chosen: ChosenStates
) -> tuple[list[Shot], float]:
    """The shots and their frames per second."""
    from likeness.playback.views.camera_path import MAX_PICTURES, load_camera_path
    from likeness.playback.views.rendering import (
        Lens,
        shots_by_angles,
        shots_by_path,
        steps_and_swings,
    )
    from likeness.playback.views.trajectories import Swing
    from likeness.scene.errors import UserError

    if args.path:
        path = load_camera_path(args.path, bundle.default_camera)
        shape = path.cameras[0]
        size = _height(args.size, shape.width, shape.height) if args.size else None
        return shots_by_path(bundle, chosen, path, size), chosen.fps if chosen.moving else path.fps
    camera = bundle.default_camera
    width, height = _height(args.size or (camera.width, None), camera.width, camera.height)
    steps, swings = steps_and_swings(chosen, args.trajectory, args.seconds or _SECONDS)
    if not chosen.moving and steps > MAX_PICTURES:
        raise UserError(
            f"--seconds {args.seconds:g}: {steps} images; expected at most {MAX_PICTURES}"
        )
    given = {"yaw": args.yaw, "pitch": args.pitch}
    given |= {
        "yaws": args.yaws and tuple(args.yaws),
        "pitches": args.pitches and tuple(args.pitches),
    }
    angles: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    swing, lens = Swing(steps, swings, **angles), Lens(width, height, args.fov, args.distance)
    around = args.around or "rest"
    return shots_by_angles(bundle, chosen, args.trajectory, swing, around, lens), chosen.fps


def _height(size: tuple[int, int | None], width: int, height: int) -> tuple[int, int]:
    """Width and height, the latter by the shape of another image where it is not given."""
    return size[0], size[1] or max(1, round(size[0] * height / width))


def _size(text: str) -> tuple[int, int | None]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 8192 for part in parts):
        raise argparse.ArgumentTypeError(f"expected W or WxH, each from 1 to 8192, got {text!r}")
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def _extent(text: str) -> float:
    value = number(text)
    if value > 180:
        raise argparse.ArgumentTypeError(f"expected an angle from 0 to 180, got {text!r}")
    return value


def _angle(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 180:
        raise argparse.ArgumentTypeError(f"expected an angle from -180 to 180, got {text!r}")
    return value


def _fov(text: str) -> float:
    value = positive_number(text)
    if value > 170:
        raise argparse.ArgumentTypeError(f"expected an angle above 0 and up to 170, got {text!r}")
    return value
