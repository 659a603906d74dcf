"""Makes captures of all videos in a folder, and reports which were refused and why.

Example: likeness collect videos --out collection --size 256 --frames 200 --jobs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from likeness.cli import command_line, many_subjects
from likeness.cli.command_line import option, positive_int


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "collect")
    option(parser, "folder", type=Path, metavar="DIR", help="folder with videos in it or below")
    option(
        parser,
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for captures and report; the same command resumes [default: DIR-captures]",
    )
    captures = parser.add_argument_group("captures")
    command_line.add_preprocessing(captures)
    option(
        captures,
        "--frames",
        type=positive_int,
        default=2000,
        metavar="N",
        help="at most this number of frames of each video, evenly spaced",
    )
    command_line.add_device(captures)
    command_line.add_weights(captures)
    limits = parser.add_argument_group("what is refused")
    option(
        limits,
        "--min-frames",
        type=positive_int,
        default=30,
        metavar="N",
        help="refuse videos with a smaller number of usable frames",
    )
    many_subjects.add_limits(limits)
    many = parser.add_argument_group("many at once")
    many_subjects.add_placement(many)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    args = parser().parse_args(words)
    from likeness.collection import report
    from likeness.collection.subjects import find_videos, only
    from likeness.collection.tasks import Workspace, preprocess_task
    from likeness.preprocess.acceptance import Limits
    from likeness.preprocess.pipeline import PreprocessConfig

    PreprocessConfig(  # checks them
        args.size, args.start, args.end, args.frames, args.min_frames, focal=args.focal
    )
    limits = many_subjects.limits(args)
    Limits(**limits)
    subjects = only(find_videos(args.folder), args.only)
    default_out = args.folder.with_name(f"{args.folder.absolute().name}-captures")
    workspace = Workspace((args.out or default_out).absolute())
    names = ("size", "matting", "tracking", "start", "end", "focal", "min_frames")
    options = {name: getattr(args, name) for name in names} | {"max_frames": args.frames}
    resources = many_subjects.resources(args, args.device)
    gpu = args.device != "cpu" and args.tracking == "pictures"
    tasks = [
        preprocess_task(subject, workspace, options, resources, limits=limits, gpu=gpu)
        for subject in subjects
    ]
    outcome = many_subjects.run(args, [[task] for task in tasks], "preprocessing")
    asked = limits | {"min_frames": args.min_frames}
    collection = report.collection_report(args.folder, workspace, subjects, outcome, asked)
    if args.only is None:
        report.write_collection(workspace.root, collection)
    print(report.collection_text(workspace.root, collection, outcome))
    return int(bool(outcome.failures))
