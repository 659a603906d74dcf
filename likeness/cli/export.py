"""Writes an avatar in a format that other programs read.

  ply      the Gaussians of one state (or of each state of a sequence) for SuperSplat, Unity, Blender and others
  spz      the same, compressed, in Niantic's format
  bundle   a small bundle for playback: distilled into a linear avatar and stored in few bits
  web      a folder with a page that shows and drives the avatar in a browser; any static file server can serve it

Example: likeness export runs/me-20260101-120000 --format ply --expression jawOpen=0.7,mouthSmileLeft=0.2
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line
from likeness.cli.command_line import option
from likeness.scene.errors import UserError, hint

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle
    from likeness.scene.head_state import HeadState

_STATES = ("frame", "expression", "sequence", "start", "end")


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "export")
    option(
        parser,
        "avatar",
        type=Path,
        metavar="RUN|BUNDLE",
        help="run directory, or a bundle's folder",
    )
    option(parser, "--format", required=True, metavar="FORMAT", help="ply, spz, bundle or web")
    option(
        parser,
        "--out",
        type=Path,
        metavar="PATH",
        help="where to [default: the folder export/ of the run]",
    )
    states = parser.add_argument_group("which state (ply, spz)")
    option(
        states,
        "--frame",
        type=int,
        metavar="N",
        help="number of a recorded frame [default: the neutral head]",
    )
    option(
        states,
        "--expression",
        metavar="NAME=VALUE,...",
        help="hold these coefficients, of 0 (neutral) to 1",
    )
    option(
        states,
        "--sequence",
        nargs="?",
        const="recording",
        metavar="FILE",
        help="all frames of the recording, or of an .npz file of states: a folder of numbered files",
    )
    option(
        states,
        "--start",
        type=command_line.number,
        metavar="S",
        unit="seconds",
        help="first of the sequence",
    )
    option(
        states,
        "--end",
        type=command_line.number,
        metavar="S",
        unit="seconds",
        help="end of the sequence",
    )
    clouds = parser.add_argument_group("how (ply, spz)")
    option(
        clouds,
        "--axes",
        choices=("y-down", "y-up", "z-up"),
        help="ply: y-down, as splat viewers expect [default]; y-up, the head frame; z-up, Blender's",
    )
    option(
        clouds,
        "--anchor",
        choices=("head", "body"),
        help="what stands still: the head [default], or the shoulders, so that the head turns",
    )
    option(
        clouds,
        "--spz-version",
        type=int,
        choices=(2, 3),
        help="number of the spz version: 3, with finer rotations [default], or 2 for older readers",
    )
    bundles = parser.add_argument_group("how (bundle, web)")
    option(
        bundles,
        "--exact",
        action="store_true",
        default=None,
        help="bundle: keep the avatar itself, in half precision, instead of distilling it",
    )
    option(
        bundles,
        "--codes",
        type=command_line.positive_int,
        metavar="R",
        help="number of codes of the distilled avatar [default: 24, or 40 if these agree badly]",
    )
    return parser


def main(words: Sequence[str] | None = None) -> None:
    args = parser().parse_args(words)
    from likeness.export.formats import EXPORTERS, ExportOptions
    from likeness.scene.files import check_absent, check_writable

    if args.format not in EXPORTERS:
        raise UserError(f"--format {args.format}: unknown; {hint(args.format, tuple(EXPORTERS))}")
    exporter = EXPORTERS[args.format]
    _refuse_unread(args, exporter.takes)
    out = args.out or _default(args.avatar) / exporter.name
    if args.sequence is not None and args.out is None:
        out = out.with_name(f"{args.format}_sequence")
    check_absent(out)
    check_writable(out)
    from likeness.playback.bundles import load_bundle

    bundle = load_bundle(args.avatar)
    known = {field.name for field in dataclasses.fields(ExportOptions)} & vars(args).keys()
    given = {name: vars(args)[name] for name in known if vars(args)[name] is not None}
    options = ExportOptions(moving=args.sequence is not None, progress=True, **given)
    facts = exporter.write(bundle, _states(args, bundle), out, options)
    print(_summary(out, facts))


def _refuse_unread(args: argparse.Namespace, takes: frozenset[str]) -> None:
    """Raises UserError for an option that the format does not read, and for states that exclude
    each other."""
    for name in (*_STATES, "axes", "anchor", "spz_version", "exact", "codes"):
        read = "states" in takes if name in _STATES else name in takes
        if vars(args)[name] is not None and not read:
            raise UserError(
                f"--{name.replace('_', '-')}: --format {args.format} does not read it; leave it out"
            )
    if args.frame is not None and args.sequence is not None:
        raise UserError("--frame and --sequence exclude each other; give one of them")
    if args.sequence is None and (args.start is not None or args.end is not None):
        raise UserError("--start and --end are of a sequence; give --sequence, too")
    if args.exact and args.codes is not None:
        raise UserError(
            "--codes is of a distilled avatar, which --exact excludes; give one of them"
        )


def _default(avatar: Path) -> Path:
    """The folder export/ of a run, or beside a bundle."""
    return (avatar if (avatar / "run.json").is_file() else avatar.resolve().parent) / "export"


def _states(args: argparse.Namespace, bundle: AvatarBundle) -> HeadState:
    """The states [T] that were asked for."""
    from likeness.playback.chosen_states import (
        one_frame,
        parse_expression,
        sequence,
        with_expression,
    )

    chosen = (
        one_frame(bundle, args.frame)
        if args.sequence is None
        else sequence(bundle, args.sequence, args.start, args.end)
    )
    if args.expression is not None:
        names = bundle.expression_names
        chosen = with_expression(chosen, parse_expression(args.expression, names), names)
    return chosen.states


def _summary(out: Path, facts: dict) -> str:
    from likeness.export.fidelity import REFERENCE_DB, loss_db

    parts = [f"{out}: {facts['bytes'] / 1e6:.2f} MB"]
    parts += [f"{name} {value}" for name, value in facts.items() if name not in ("bytes", "psnr")]
    if facts["psnr"] is not None:
        loss = loss_db(facts["psnr"])
        parts.append(
            f"{facts['psnr']:.1f} dB to the avatar's pictures, which costs {loss:.2f} dB at {REFERENCE_DB:.0f} dB"
        )
    return ", ".join(parts)
