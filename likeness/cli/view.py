"""Shows an avatar, or two side by side, live in the browser: look around, move its face, play its
recording, tune it.

Example: likeness view runs/me-20260101-120000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from likeness.cli import command_line
from likeness.cli.command_line import option, positive_int
from likeness.scene.devices import choose_device


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "view")
    option(
        parser,
        "run",
        type=Path,
        metavar="RUN",
        help="run directory that fit_subject.py wrote, or a bundle",
    )
    option(
        parser, "other", type=Path, nargs="?", metavar="RUN2", help="another one, shown beside it"
    )
    option(
        parser,
        "--size",
        type=positive_int,
        default=512,
        unit="pixels",
        help="height of the picture, at most 2048",
    )
    option(
        parser,
        "--fps",
        type=positive_int,
        default=60,
        unit="pictures a second",
        help="render no more than these",
    )
    option(
        parser,
        "--extrapolate",
        action="store_true",
        help="beyond the recording's views, too, show the avatar as it is; else what no frame showed is held",
    )
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
