"""Writes an avatar in a format that other programs read.

  ply      the Gaussians of one state (or of each state of a sequence), for other 3D programs
  spz      the same, compressed, in Niantic's format
  bundle   a small bundle for playback: distilled into a linear avatar and quantized
  web      a folder with a page that shows and drives the avatar in a browser, for any file server

Example: likeness export runs/me --format ply --expression jawOpen=0.7,mouthSmileLeft=0.2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from likeness.cli import command_line
from likeness.cli.command_line import option, positive_int
from likeness.scene.errors import UserError

_STATES = ("frame", "expression", "sequence", "start", "end")
_OPTIONS = ("axes", "anchor", "spz_version", "exact", "codes")


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "export")
    text = "run directory of likeness fit, or a bundle"
    option(parser, "avatar", type=Path, metavar="RUN|BUNDLE", help=text)
    option(parser, "--format", required=True, metavar="FORMAT", help="ply, spz, bundle or web")
    text = "file or folder to write [default: in export/ of the run]"
    option(parser, "--out", type=Path, metavar="PATH", help=text)
    states = parser.add_argument_group(
        "which state (ply, spz); a sequence becomes a folder of files"
    )
    command_line.add_states(states)
    clouds = parser.add_argument_group("how (ply, spz)")
    text = "ply: y-down, for splat viewers [default]; y-up, the head frame; z-up, Blender's"
    option(clouds, "--axes", choices=("y-down", "y-up", "z-up"), help=text)
    text = "frame of the file: of the head [default], or of the shoulders, so that the head moves"
    option(clouds, "--anchor", choices=("head", "body"), help=text)
    text = (
        "number of the format's version: 3, with finer rotations [default], or 2 for older readers"
    )
    option(clouds, "--spz-version", type=int, choices=(2, 3), help=text)
    bundles = parser.add_argument_group("how (bundle, web)")
    text = "bundle: keep the avatar itself, in half precision, instead of distilling it"
    option(bundles, "--exact", action="store_true", default=None, help=text)
    text = "number of codes of the distilled avatar [default: 24, or 40 if these agree too little]"
    option(bundles, "--codes", type=positive_int, metavar="R", help=text)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    args = parser().parse_args(words)
    from likeness.export.base import ExportOptions
    from likeness.export.formats import export_avatar, exporter
    from likeness.playback.bundles import load_bundle
    from likeness.scene.files import check_absent, check_writable

    chosen = exporter(args.format)
    _refuse_unread(args, chosen.takes)
    out = args.out or _default(args.avatar) / chosen.name
    if args.sequence is not None and args.out is None:
        out = out.with_name(f"{args.format}_sequence")
    check_absent(out)
    check_writable(out)
    bundle = load_bundle(args.avatar)
    states = command_line.states(args, bundle).states if "states" in chosen.takes else None
    options = ExportOptions(
        moving=args.sequence is not None,
        progress=True,
        **{name: getattr(args, name) for name in _OPTIONS},
    )
    print(_summary(out, export_avatar(bundle, out, args.format, states, options)))


def _refuse_unread(args: argparse.Namespace, takes: frozenset[str]) -> None:
    """Raises UserError for an option that the format does not read, and for options that exclude
    each other."""
    for name in (*_STATES, *_OPTIONS):
        read = "states" in takes if name in _STATES else name in takes
        if getattr(args, name) is not None and not read:
            raise UserError(
                f"--{name.replace('_', '-')}: --format {args.format} does not read it; leave it out"
            )
    if args.sequence is None and (args.start is not None or args.end is not None):
        raise UserError("--start and --end are of a sequence; give --sequence, too")
    if args.exact and args.codes is not None:
        raise UserError(
            "--codes is of a distilled avatar, which --exact excludes; give one of them"
        )


def _default(avatar: Path) -> Path:
    """The folder export/ of a run, or beside a bundle."""
    return (avatar if (avatar / "run.json").is_file() else avatar.resolve().parent) / "export"


def _summary(out: Path, facts: dict) -> str:
    from likeness.export.fidelity import REFERENCE_DB, loss_db

    parts = [f"{out}: {facts['bytes'] / 1e6:.2f} MB"]
    parts += [f"{name} {value}" for name, value in facts.items() if name not in ("bytes", "psnr")]
    if facts["psnr"] is not None:
        loss = loss_db(facts["psnr"])
        parts.append(
            f"{facts['psnr']:.1f} dB to the avatar's images, "
            f"which costs {loss:.2f} dB at {REFERENCE_DB:.0f} dB"
        )
    return ", ".join(parts)
