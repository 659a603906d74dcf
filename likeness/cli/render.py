"""Renders an avatar from new views, with any expression of its recording or of your own.

Examples:
  likeness render runs/me-... --trajectory orbit --out orbit.mp4
  likeness render runs/me-... --sequence recording --trajectory spiral --background transparent --out me.webm
  likeness render runs/me-... --trajectory grid --yaws -30 0 30 --expression jawOpen=0.7 --out smile.png
  likeness render runs/me-... --path path.json --depth --normals --size 1024 --out frames

A camera path is a JSON file and head states are an .npz file: their formats stand at the top of
playback/views/camera_path.py and playback/state_file.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line
from likeness.cli.command_line import number, option, positive_number
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
    option(
        parser,
        "avatar",
        type=Path,
        metavar="RUN|BUNDLE",
        help="run directory of fit_subject.py, or a bundle",
    )
    option(
        parser,
        "--out",
        type=Path,
        metavar="PATH",
        help="film (.mp4; .webm also transparent), one picture (.png), or a folder for PNG pictures, which the same "
        "command goes on with when interrupted [default: views/NAME-TRAJECTORY.mp4, or .png for one moment]",
    )
    option(
        parser,
        "--overwrite",
        action="store_true",
        help="replace what this program wrote there before",
    )
    _add_states(
        parser.add_argument_group("what the avatar does [default: rests, without expression]")
    )
    _add_cameras(parser.add_argument_group("where the camera stands"))
    picture = parser.add_argument_group("the picture")
    option(
        picture,
        "--size",
        type=_size,
        metavar="W[xH]",
        unit="pixels",
        help="width, and height if of another shape [default: the recording's, or the camera path's]",
    )
    option(
        picture,
        "--background",
        default="white",
        metavar="B",
        help="#rrggbb, the name of a colour, transparent, or a picture file",
    )
    option(
        picture,
        "--depth",
        action="store_true",
        help="also the depth: in a folder or beside a .png with .npy",
    )
    option(
        picture,
        "--normals",
        action="store_true",
        help="also the normals of the surface that the depth shows",
    )
    option(
        picture,
        "--extrapolate",
        action="store_true",
        help="beyond the views of the recording, too, show the avatar as it is; else what no frame showed is held",
    )
    command_line.add_coarse(picture)
    command_line.add_compile(parser)
    command_line.add_device(parser)
    return parser


def _add_states(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group()
    option(
        source,
        "--frame",
        type=int,
        metavar="N",
        unit="number from 0",
        help="a frame of the recording",
    )
    option(
        source, "--sequence", metavar="WHAT", help="`recording`, or a file of head states (.npz)"
    )
    option(
        group, "--start", type=number, metavar="S", unit="seconds", help="where the sequence begins"
    )
    option(group, "--end", type=number, metavar="S", unit="seconds", help="where the sequence ends")
    option(
        group,
        "--expression",
        metavar="NAME=V,...",
        help="hold these coefficients (0 to 1), such as jawOpen=0.7,mouthSmileLeft=0.5",
    )


def _add_cameras(group: argparse._ArgumentGroup) -> None:
    way = group.add_mutually_exclusive_group()
    option(
        way,
        "--trajectory",
        choices=("still", "orbit", "spiral", "grid"),
        default="orbit",
        help="angles about the head, from where the recording's camera stood",
    )
    option(way, "--path", type=Path, metavar="FILE", help="camera path (.json)")
    option(
        group,
        "--around",
        choices=("rest", "frame", "head"),
        help="turn about the head at its mean pose, at the first frame shown, or move with the head [default: rest]",
    )
    option(
        group,
        "--yaw",
        type=_angle,
        metavar="A",
        unit="degrees",
        help="how far an orbit or spiral goes to the sides; 180 goes all the way round [default: 30]",
    )
    option(
        group,
        "--pitch",
        type=_angle,
        metavar="A",
        unit="degrees",
        help="how far a spiral goes up and down [default: 15]",
    )
    option(
        group,
        "--yaws",
        type=_turn,
        nargs="+",
        metavar="A",
        unit="degrees",
        help="columns of the grid, to the subject's left [default: -30 -15 0 15 30]",
    )
    option(
        group,
        "--pitches",
        type=_turn,
        nargs="+",
        metavar="A",
        unit="degrees",
        help="rows of the grid, upwards [default: 0]",
    )
    option(
        group,
        "--seconds",
        type=positive_number,
        metavar="S",
        unit="seconds",
        help=f"length of one movement of an orbit or spiral [default: {_SECONDS:g}]",
    )
    option(
        group,
        "--fov",
        type=_fov,
        metavar="A",
        unit="degrees",
        help="horizontal field of view from the same place [default: the recording's]",
    )
    option(
        group,
        "--distance",
        type=positive_number,
        metavar="M",
        unit="metres",
        help="from the middle of the head [default: the recording's]",
    )


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
            f"--seconds {args.seconds:g}: {steps} pictures; expected at most {MAX_PICTURES}"
        )
    given = {name: getattr(args, name) for name in ("yaw", "pitch", "yaws", "pitches")}
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    swing = Swing(
        steps, swings, **{name: value for name, value in given.items() if value is not None}
    )
    lens = Lens(width, height, args.fov, args.distance)
    return shots_by_angles(
        bundle, chosen, args.trajectory, swing, args.around or "rest", lens
    ), chosen.fps


def _height(size: tuple[int, int | None], width: int, height: int) -> tuple[int, int]:
    """Width and height, the latter by the shape of another picture where it is not given."""
    return size[0], size[1] or max(1, round(size[0] * height / width))


def _size(text: str) -> tuple[int, int | None]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 8192 for part in parts):
        raise argparse.ArgumentTypeError(f"expected W or WxH, each from 1 to 8192, got {text!r}")
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def _angle(text: str) -> float:
    value = number(text)
    if value > 180:
        raise argparse.ArgumentTypeError(f"expected an angle from 0 to 180, got {text!r}")
    return value


def _turn(text: str) -> float:
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
