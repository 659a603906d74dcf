"""Fits a drivable head avatar to one person's video, or makes one from a single image.

Examples: likeness fit --video me.mp4
          likeness fit --image me.jpg
          likeness fit --image edited.png --base runs/me-20260101-120000
          likeness fit --list subjects.txt --jobs 2 --out runs/all
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from likeness.cli import command_line, fit_images, fit_list, many_subjects
from likeness.cli.command_line import COUNT, DIR, FILE, FLAG, MINUTES, RUN, option
from likeness.scene.devices import choose_device

_BEGUN = time.perf_counter()

if TYPE_CHECKING:
    from likeness.fitting.run_directory import RunDirectory


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "fit")
    source = parser.add_argument_group("what to fit (one of these)").add_mutually_exclusive_group()
    option(source, "--video", **FILE, help="video of one person's head and shoulders")
    text = "image of one person's face: an avatar within seconds; repeat for more of one person"
    option(source, "--image", **FILE, action="append", help=text)
    text = "preprocessed video: the folder `capture` of a run"
    option(source, "--capture", **DIR, help=text)
    text = "a synthetic subject with known ground truth; needs no file"
    option(source, "--demo", **FLAG, help=text)
    text = "resume an interrupted run, by its own settings"
    option(source, "--resume", **RUN, help=text)
    text = "text file with one video in each line, and options such as name=anna minutes=5 after it"
    option(source, "--list", **FILE, help=text)

    fitting = parser.add_argument_group("fitting")
    text = "run directory, which must not exist yet [default: runs/<name>-<time>]"
    option(fitting, "--out", **DIR, help=text)
    command_line.add_config(fitting, None, " [default: default; for --image one-picture]")
    option(
        fitting,
        "--init",
        metavar="NAME",
        help="where the Gaussians start: mesh (the head model), picture (also beside it), lifted "
        "(unprojected images), one_shot (the network), random, or auto [default: the preset's own]",
    )
    length = fitting.add_mutually_exclusive_group()
    text = "time for the fit [default: the preset's own length]"
    option(length, "--minutes", **MINUTES, help=text)
    option(length, "--iterations", **COUNT, help="length of the fit in iterations")
    command_line.add_device(fitting)
    command_line.add_seed(fitting)
    command_line.add_weights(fitting)
    fit_images.add_options(parser.add_argument_group("with --image"))

    watching = parser.add_argument_group("watching")
    text = "show the fit in the browser while it runs, a few %% slower"
    option(watching, "--viewer", **FLAG, help=text)
    command_line.add_viewer(watching)
    command_line.add_preprocessing(parser.add_argument_group("preprocessing"))

    many = parser.add_argument_group("many subjects (with --list)")
    text = "only this stage, such as preprocess on machines without a GPU and fit on others"
    option(many, "--stage", choices=("preprocess", "fit"), help=text)
    text = "preprocess on the GPUs, too"
    option(many, "--gpu-preprocessing", **FLAG, help=text)
    text = "remove the checkpoints of finished runs, two thirds of their size"
    option(many, "--tidy", **FLAG, help=text)
    many_subjects.add_placement(many)
    return parser


def main(words: Sequence[str] | None = None) -> int | None:
    arguments = parser()
    args = arguments.parse_args(words)
    if args.help_config:
        return _list_settings()
    if not (args.video or args.image or args.capture or args.demo or args.resume or args.list):
        arguments.error("one of --video, --image, --capture, --demo, --resume, --list is needed")
    fit_images.check(args, arguments)
    fit_list.check(args, arguments)
    if args.list:
        return fit_list.run_list(args)
    device = str(choose_device(args.device))
    if args.image:
        return fit_images.fit(args, device, _BEGUN)
    viewer = (args.host, args.port) if args.viewer else None
    if viewer is not None:
        from likeness.playback.viewer.server import check_address, require_viser

        require_viser()
        check_address(*viewer)  # now, not after the preprocessing
    from likeness.playback.evaluation import summary
    from likeness.runs import finish_run, open_run

    run = open_run(args.resume) if args.resume else _started(args)
    command_line.resume_with(f"resume with: likeness fit --resume {run.root}")
    with run.held():
        metrics = finish_run(run, viewer)
    print(f"{summary(metrics)}\navatar: {run.bundle}\nreport: {run.root / 'report.html'}")


def _started(args: argparse.Namespace) -> RunDirectory:
    """A new run with its capture in it."""
    from likeness.fitting.run_directory import RunOptions
    from likeness.preprocess.pipeline import PreprocessConfig
    from likeness.runs import start_run
    from likeness.scene.capture import Capture

    command_line.resume_with("the same command resumes: what is preprocessed so far is kept")
    weights = None if args.weights is None else str(args.weights.absolute())
    return start_run(
        Capture.load(args.capture) if args.capture else args.video,
        args.out,
        RunOptions(
            args.demo, args.minutes, args.iterations, args.seed, args.device, args.offline, weights
        ),
        args.preset or "default",
        fit_images.initializer_override(args, "video"),
        PreprocessConfig(**command_line.preprocessing(args)),
    )


def _list_settings() -> None:
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import listing

    print(listing(FitConfig))
