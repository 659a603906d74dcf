"""Shows an avatar, or two side by side, live in the browser: look around, move its face, play its
recording, tune it.

Example: likeness view runs/me-20260101-120000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from likeness.cli import command_line
from likeness.cli.command_line import FLAG, RUN, option, positive_int
from likeness.scene.devices import choose_device


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "view")
    option(parser, "run", **RUN, help="run directory of likeness fit, or a bundle")
    text = "another one, shown beside it"
    option(parser, "other", type=Path, nargs="?", metavar="RUN2", help=text)
    pixels = {"type": positive_int, "unit": "pixels"}
    option(parser, "--size", **pixels, default=512, help="height of the image, at most 2048")
    rate = {"type": positive_int, "unit": "frames per second"}
    option(parser, "--fps", **rate, default=60, help="limit of the frame rate")
    text = "do not clamp views beyond the recording's to what it supports"
    option(parser, "--extrapolate", **FLAG, help=text)
    command_line.add_coarse(parser)
    command_line.add_compile(parser)
    command_line.add_viewer(parser)
    command_line.add_device(parser)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    args = parser().parse_args(words)
    from likeness.playback.viewer.server import check_address, require_viser

    require_viser()
    check_address(args.host, args.port)
    device = str(choose_device(args.device))
    from likeness.playback.viewer.viewer import Viewer

    paths = [args.run] + ([args.other] if args.other else [])
    viewer = Viewer.open(
        paths,
        device,
        args.host,
        args.port,
        size=args.size,
        fps=args.fps,
        extrapolate=args.extrapolate,
        refine=not args.coarse,
        compile=args.compile,
    )
    try:
        print(f"look at {' or '.join(viewer.urls)} (Ctrl-C ends it)", flush=True)
        viewer.wait()
    except command_line.Terminated:
        raise
    except KeyboardInterrupt:
        pass
    finally:
        viewer.stop()
