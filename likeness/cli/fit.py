"""Fits a drivable head avatar to one person's video, or makes one from a single picture.

Examples: python fit_subject.py --video me.mp4
          python fit_subject.py --image me.jpg
          python fit_subject.py --image edited.png --base runs/me-20260101-120000
          python fit_subject.py --list subjects.txt --jobs 2 --out runs/all
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line, fit_images, fit_list, many_subjects
from likeness.cli.command_line import option, positive_int, positive_number

_BEGUN = time.perf_counter()

if TYPE_CHECKING:
    from likeness.fitting.config import FitConfig
    from likeness.fitting.result import FitResult
    from likeness.fitting.run_directory import RunDirectory
    from likeness.fitting.subject import FitOptions
    from likeness.scene.capture import Capture

# A resumed run takes these from the run that it goes on with, not from the command line.
_REMEMBERED = ("demo", "minutes", "iterations", "seed", "device", "offline", "weights")


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "fit")
    source = parser.add_argument_group("what to fit (one of these)").add_mutually_exclusive_group()
    option(
        source,
        "--video",
        type=Path,
        metavar="FILE",
        help="video of one person's head and shoulders",
    )
    option(
        source,
        "--image",
        type=Path,
        action="append",
        metavar="FILE",
        help="picture of one person's face instead of a video: an avatar within seconds; repeat for more of one person",
    )
    option(
        source,
        "--capture",
        type=Path,
        metavar="DIR",
        help="preprocessed video: the folder `capture` of a run",
    )
    option(
        source,
        "--demo",
        action="store_true",
        help="a made person whose truth is known; needs no file",
    )
    option(
        source,
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with an interrupted run, by its own settings",
    )
    option(
        source,
        "--list",
        type=Path,
        metavar="FILE",
        help="text file with one video in each line, and options such as name=anna minutes=5 behind it",
    )
    fitting = parser.add_argument_group("fitting")
    option(
        fitting,
        "--out",
        type=Path,
        metavar="DIR",
        help="run directory, not to exist yet [default: runs/<name>-<time>]",
    )
    command_line.add_config(fitting, None, " [default: default; for --image one-picture]")
    option(
        fitting,
        "--init",
        metavar="NAME",
        help="where the Gaussians start: one_shot, lifted, picture, mesh, random, or auto [default: the preset's own]",
    )
    length = fitting.add_mutually_exclusive_group()
    option(
        length,
        "--minutes",
        type=positive_number,
        metavar="M",
        unit="minutes",
        help="time for the fit; unless said, the preset's own iterations, on a CPU the preset's own minutes, if any",
    )
    option(
        length,
        "--iterations",
        type=positive_int,
        metavar="N",
        help="length of the fit in iterations",
    )
    command_line.add_device(fitting)
    command_line.add_seed(fitting)
    command_line.add_weights(fitting)
    pictures = parser.add_argument_group("with --image")
    fit_images.add_pictures(pictures)
    watching = parser.add_argument_group("watching")
    option(
        watching,
        "--viewer",
        action="store_true",
        help="show the fit in the browser as it goes on, a few %% slower",
    )
    command_line.add_viewer(watching)
    prepare = parser.add_argument_group("preprocessing")
    command_line.add_preprocessing(prepare)
    many = parser.add_argument_group("many subjects (with --list)")
    option(
        many,
        "--stage",
        choices=("preprocess", "fit"),
        help="only this half of the work, such as one on machines without and one on machines with a GPU",
    )
    option(
        many,
        "--gpu-preprocessing",
        action="store_true",
        help="preprocess on the GPUs, too, not on CPUs alone",
    )
    option(
        many,
        "--tidy",
        action="store_true",
        help="remove the checkpoints of runs that are finished, two thirds of their size; nothing needs them any more",
    )
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
    device = str(command_line.device(args.device))
    if args.image:
        return fit_images.fit(args, device, _BEGUN)
    if args.viewer:
        from likeness.playback.viewer.server import check_address, require_viser

        require_viser()
        check_address(args.host, args.port)  # now, not after the preprocessing
    run, config = _resumed(args) if args.resume else _started(args, device)
    command_line.resume_with(f"go on with: python fit_subject.py --resume {run.root}")

    with run.held():
        _work(run, config, args, device)


def _work(run: RunDirectory, config: FitConfig, args: argparse.Namespace, device: str) -> None:
    """Fits, measures and reports a run."""
    from likeness.fitting.length import budget_of
    from likeness.fitting.perceptual import LPIPS
    from likeness.fitting.report import write_report
    from likeness.fitting.subject import FitOptions
    from likeness.playback.demo_truth import compare_with_truth
    from likeness.playback.evaluation import measure_run, summary
    from likeness.scene.capture import Capture

    capture = Capture.load(run.capture)
    budget = budget_of(config, device, args.minutes, args.iterations)
    options = FitOptions(budget, device, args.seed, args.weights, not args.offline)
    result = _fit(run, capture, config, options, (args.host, args.port) if args.viewer else None)
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    extra = (
        compare_with_truth(
            result.bundle, capture, _demo_folder(run.root), device, run.root / "novel_views"
        )
        if args.demo
        else {}
    )
    metrics = measure_run(run, result, capture, device=device, lpips=lpips, extra=extra)
    report = write_report(run.root)
    print(f"{summary(metrics)}\navatar: {run.bundle}\nreport: {report}")


def _fit(
    run: RunDirectory,
    capture: Capture,
    config: FitConfig,
    options: FitOptions,
    address: tuple[str, int] | None,
) -> FitResult:
    """The fit of a run; with an address, browsers can look at it while it goes on."""
    from likeness.fitting.subject import fit_run

    if address is None:
        return fit_run(run, capture, config, options)
    from likeness.playback.viewer.following import FitFollower

    follower = FitFollower(capture, options.device, *address)
    try:
        return fit_run(run, capture, config, options, follower.listener)
    finally:
        follower.stop()


def _started(args: argparse.Namespace, device: str) -> tuple[RunDirectory, FitConfig]:
    """A new run with its capture in it, and the configuration."""
    from likeness.fitting.config import FitConfig
    from likeness.fitting.loop import check_batch
    from likeness.fitting.networks import require
    from likeness.fitting.run_directory import RunDirectory, default_root
    from likeness.preprocess.pipeline import PreprocessConfig, find_or_build
    from likeness.scene.capture import Capture
    from likeness.scene.config_files import load_preset, to_yaml
    from likeness.scene.errors import UserError
    from likeness.synthetic.truth import make_demo

    config = load_preset(
        args.preset or "default", FitConfig, fit_images.initializer_override(args, "video")
    )
    require(config.networks, device)
    name = "demo" if args.demo else (args.video or args.capture.absolute().parent).stem
    root = args.out or default_root(Path("runs"), name)
    RunDirectory.check_free(root)
    command_line.resume_with("the same command goes on: what is preprocessed so far is kept")
    if args.capture:
        source = Capture.load(args.capture)
    else:
        video = make_demo(_demo_folder(root)).video if args.demo else args.video
        settings = PreprocessConfig(
            args.size,
            args.start,
            args.end,
            matting=args.matting,
            focal=args.focal,
            tracking=args.tracking,
        )
        source = find_or_build(
            video,
            root.parent / ".captures",
            settings,
            device=device,
            weights=args.weights,
            download=not args.offline,
        )
    check_batch(config, source)
    if not source.test:  # as captures of pictures have none
        raise UserError(
            f"{source.root}: no frame is held out to measure a fit on; expected the capture of a video"
        )
    options = {key: getattr(args, key) for key in _REMEMBERED}
    options["weights"] = None if args.weights is None else str(args.weights.absolute())
    return RunDirectory.create(root, source.root, options, to_yaml(config)), config


def _resumed(args: argparse.Namespace) -> tuple[RunDirectory, FitConfig]:
    """An existing run and its configuration; its options replace those of ``args``."""
    from likeness.fitting.config import FitConfig
    from likeness.fitting.run_directory import RunDirectory
    from likeness.scene.config_files import load_preset
    from likeness.scene.errors import UserError

    run = RunDirectory.open(args.resume)
    options = run.options()
    if options.images is not None:
        raise UserError(
            f"{run.root}: was made from pictures, which takes seconds; run fit_subject.py --image again"
        )
    vars(args).update({key: getattr(options, key) for key in _REMEMBERED})
    args.weights = None if args.weights is None else Path(args.weights)
    return run, load_preset(run.config, FitConfig)


def _demo_folder(root: Path) -> Path:
    return root.parent / ".demo"


def _list_settings() -> None:
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import listing

    print(listing(FitConfig))
