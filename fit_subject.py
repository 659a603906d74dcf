"""Fits a drivable head avatar to one person's video, or makes one from a single picture.

Examples: python fit_subject.py --video me.mp4
          python fit_subject.py --image me.jpg
          python fit_subject.py --image edited.png --base runs/me-20260101-120000
          python fit_subject.py --list subjects.txt --jobs 2 --out runs/all
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import command_line
import command_line_many
from command_line import option, positive_int, positive_number

_BEGUN = time.perf_counter()

if TYPE_CHECKING:
    from fitting.config import FitConfig
    from fitting.few_pictures import Base
    from fitting.result import FitResult
    from fitting.run_directory import RunDirectory
    from fitting.subject import FitOptions
    from scene.capture import Capture

# What says nothing about pictures.
_OF_VIDEOS = ("minutes", "iterations", "viewer", "start", "end", "tracking")
# A resumed run takes these from the run that it goes on with, not from the command line.
_REMEMBERED = ("demo", "minutes", "iterations", "seed", "device", "offline", "weights")
# What the command line says for all subjects of a list, and a line of it for one.
_FOR_EACH = ("minutes", "iterations", "preset", "overrides", "init", "seed", "size", "matting", "tracking", "start",
             "end", "focal")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__)
    source = parser.add_argument_group("what to fit (one of these)").add_mutually_exclusive_group()
    option(source, "--video", type=Path, metavar="FILE", help="video of one person's head and shoulders")
    option(
        source, "--image", type=Path, action="append", metavar="FILE",
        help="picture of one person's face instead of a video: an avatar within seconds; repeat for more of one person",
    )  # fmt: skip
    option(source, "--capture", type=Path, metavar="DIR", help="preprocessed video: the folder `capture` of a run")
    option(source, "--demo", action="store_true", help="a made person whose truth is known; needs no file")
    option(source, "--resume", type=Path, metavar="RUN", help="go on with an interrupted run, by its own settings")
    option(
        source, "--list", type=Path, metavar="FILE",
        help="text file with one video in each line, and options such as name=anna minutes=5 behind it",
    )  # fmt: skip
    fitting = parser.add_argument_group("fitting")
    option(
        fitting, "--out", type=Path, metavar="DIR", help="run directory, not to exist yet [default: runs/<name>-<time>]"
    )
    command_line.add_config(fitting, None, " [default: default; for --image one-picture]")
    option(
        fitting, "--init", metavar="NAME",
        help="where the Gaussians start: mesh, picture, lifted, random, or auto [default: the preset's own]",
    )  # fmt: skip
    length = fitting.add_mutually_exclusive_group()
    option(
        length, "--minutes", type=positive_number, metavar="M", unit="minutes",
        help="time for the fit; unless said, the preset's own iterations, on a CPU 10 minutes",
    )  # fmt: skip
    option(length, "--iterations", type=positive_int, metavar="N", help="length of the fit in iterations")
    command_line.add_device(fitting)
    command_line.add_seed(fitting)
    command_line.add_weights(fitting)
    pictures = parser.add_argument_group("with --image")
    option(
        pictures, "--refine", type=positive_number, metavar="S", unit="seconds",
        help="then fit to the pictures themselves for so long; without it nothing is optimised",
    )  # fmt: skip
    option(
        pictures, "--base", type=Path, metavar="RUN",
        help="carry the colours of an edited picture into the avatar of this run; the result is a new run",
    )  # fmt: skip
    watching = parser.add_argument_group("watching")
    option(watching, "--viewer", action="store_true", help="show the fit in the browser as it goes on, a few %% slower")
    command_line.add_viewer(watching)
    prepare = parser.add_argument_group("preprocessing")
    command_line.add_preprocessing(prepare)
    many = parser.add_argument_group("many subjects (with --list)")
    option(
        many, "--stage", choices=("preprocess", "fit"),
        help="only this half of the work, such as one on machines without and one on machines with a GPU",
    )  # fmt: skip
    option(many, "--gpu-preprocessing", action="store_true", help="preprocess on the GPUs, too, not on CPUs alone")
    option(
        many, "--tidy", action="store_true",
        help="remove the checkpoints of runs that are finished, two thirds of their size; nothing needs them any more",
    )  # fmt: skip
    command_line_many.add_fleet(many)
    return parser


def main() -> int | None:
    arguments = parser()
    args = arguments.parse_args()
    if args.help_config:
        return _list_settings()
    if not (args.video or args.image or args.capture or args.demo or args.resume or args.list):
        arguments.error("one of --video, --image, --capture, --demo, --resume, --list is needed")
    for name in _OF_VIDEOS if args.image else ("refine", "base"):
        if getattr(args, name) != arguments.get_default(name):
            arguments.error(f"--{name} has no meaning {'with' if args.image else 'without'} --image")
    _check_many(args, arguments)
    if args.list:
        return _many(args)
    device = str(command_line.device(args.device))
    if args.image:
        return _pictures(args, device)
    if args.viewer:
        from playback.viewer.server import check_address, require_viser

        require_viser()
        check_address(args.host, args.port)  # now, not after the preprocessing
    run, config = _resumed(args) if args.resume else _started(args, device)
    command_line.resume_with(f"go on with: python fit_subject.py --resume {run.root}")

    from fitting.perceptual import LPIPS
    from fitting.report import write_report
    from fitting.subject import FitOptions, budget_of
    from playback.demo_truth import compare_with_truth
    from playback.evaluation import measure_run
    from scene.capture import Capture

    capture = Capture.load(run.capture)
    budget = budget_of(config, device, args.minutes, args.iterations)
    options = FitOptions(budget, device, args.seed, args.weights, not args.offline)
    result = _fit(run, capture, config, options, (args.host, args.port) if args.viewer else None)
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    extra = (
        compare_with_truth(result.bundle, capture, _demo_folder(run.root), device, run.root / "novel_views")
        if args.demo
        else {}
    )
    measure_run(run, result, capture, device=device, lpips=lpips, extra=extra)
    report = write_report(run.root)
    print(f"avatar: {run.bundle}\nreport: {report}")


def _fit(
    run: RunDirectory, capture: Capture, config: FitConfig, options: FitOptions, address: tuple[str, int] | None
) -> FitResult:
    """The fit of a run; with an address, browsers can look at it while it goes on."""
    from fitting.subject import fit_run

    if address is None:
        return fit_run(run, capture, config, options)
    from playback.viewer.following import FitFollower

    follower = FitFollower(capture, options.device, *address)
    try:
        return fit_run(run, capture, config, options, follower.listener)
    finally:
        follower.stop()


def _started(args: argparse.Namespace, device: str) -> tuple[RunDirectory, FitConfig]:
    """A new run with its capture in it, and the configuration."""
    from fitting.config import FitConfig
    from fitting.config_files import load_preset, to_yaml
    from fitting.run_directory import RunDirectory, default_root
    from preprocess.demo_subject.truth import make_demo
    from preprocess.pipeline import PreprocessConfig, find_or_build
    from scene.capture import Capture

    config = load_preset(args.preset or "default", FitConfig, _overrides(args, "video"))
    name = "demo" if args.demo else (args.video or args.capture.absolute().parent).stem
    root = args.out or default_root(Path("runs"), name)
    RunDirectory.check_free(root)
    command_line.resume_with("the same command goes on: what is preprocessed so far is kept")
    if args.capture:
        source = Capture.load(args.capture)
    else:
        video = make_demo(_demo_folder(root)).video if args.demo else args.video
        settings = PreprocessConfig(
            args.size, args.start, args.end, matting=args.matting, focal=args.focal, tracking=args.tracking
        )
        source = find_or_build(
            video, root.parent / ".captures", settings,
            device=device, weights=args.weights, download=not args.offline,
        )  # fmt: skip
    options = {key: getattr(args, key) for key in _REMEMBERED}
    options["weights"] = None if args.weights is None else str(args.weights.absolute())
    return RunDirectory.create(root, source.root, options, to_yaml(config)), config


def _overrides(args: argparse.Namespace, kind: str) -> list[str]:
    """--set with --init in its terms. kind: "video" or "pictures"."""
    from fitting.initializers import AUTO

    chosen = AUTO[kind] if args.init == "auto" else args.init
    return args.overrides + ([] if chosen is None else [f"initializer={chosen}"])


def _pictures(args: argparse.Namespace, device: str) -> None:
    """An avatar of pictures, or one whose colours they change."""
    import tempfile

    from fitting.few_pictures import Base, fit_pictures, recolour_pictures
    from fitting.perceptual import LPIPS
    from fitting.report import write_report
    from fitting.run_directory import RunDirectory, default_root
    from playback.few_pictures import FOLDER, measure_pictures, show_edit
    from preprocess.portraits.capture import PictureOptions, build_capture
    from scene.capture import Capture

    base = Base.open(args.base) if args.base else None
    config, yaml = _picture_config(args, base)
    root = args.out or default_root(Path("runs"), args.image[0].stem)
    RunDirectory.check_free(root)
    seconds = {"start": round(time.perf_counter() - _BEGUN, 3)}
    with tempfile.TemporaryDirectory(prefix=".pictures-", dir=root.parent) as folder:
        options = PictureOptions(args.size, args.focal, args.matting)
        source = build_capture(
            args.image, Path(folder), options if base is None else base.options(options),
            identity=None if base is None else base.capture.identity,
            device=device, weights=args.weights, download=not args.offline,
        )  # fmt: skip
        asked = {"images": [str(path) for path in args.image], "refine": args.refine, "seed": args.seed}
        asked["base"] = None if args.base is None else str(args.base)
        run = RunDirectory.create(root, source.root, asked, yaml)
    capture = Capture.load(run.capture)
    if base is None:
        result = fit_pictures(run, capture, config, refine_s=args.refine, device=device, seed=args.seed)
    else:
        result = recolour_pictures(run, capture, base, device=device)
        capture = Capture.load(run.capture)
        show_edit(base.bundle, result.bundle, capture, run.root / FOLDER, device=device)
    seconds |= {name: value for name, value in capture.report["seconds"].items() if name != "total"} | result.seconds
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    measure_pictures(
        run, result.bundle, capture, seconds, result.notes, device=device, lpips=lpips, extra=result.figures
    )
    report = write_report(run.root)
    print(f"avatar: {run.bundle}\nreport: {report}\nseconds: {time.perf_counter() - _BEGUN:.1f}")


def _picture_config(args: argparse.Namespace, base: Base | None) -> tuple[FitConfig | None, str]:
    """The configuration of a run of pictures (none with a base: nothing is fitted), and the text that it is kept as."""
    from fitting.config import FitConfig
    from fitting.config_files import load_preset, to_yaml
    from scene.errors import UserError

    if base is None:
        config = load_preset(args.preset or "one-picture", FitConfig, _overrides(args, "pictures"))
        return config, to_yaml(config)
    if args.preset or args.overrides or args.init or args.refine:
        raise UserError("--base: takes everything from its run; leave out --preset, --set, --init and --refine")
    return None, base.run.config.read_text()


def _resumed(args: argparse.Namespace) -> tuple[RunDirectory, FitConfig]:
    """An existing run and its configuration; its options replace those of ``args``."""
    from fitting.config import FitConfig
    from fitting.config_files import load_preset
    from fitting.run_directory import RunDirectory
    from scene.errors import UserError

    run = RunDirectory.open(args.resume)
    if "images" in run.options():
        raise UserError(f"{run.root}: was made from pictures, which takes seconds; run fit_subject.py --image again")
    vars(args).update({key: value for key, value in run.options().items() if key in _REMEMBERED})
    args.weights = None if args.weights is None else Path(args.weights)
    return run, load_preset(run.config, FitConfig)


def _check_many(args: argparse.Namespace, arguments: argparse.ArgumentParser) -> None:
    """Options that mean nothing with the others given are errors."""
    for name in ("stage", "gpu_preprocessing", "tidy", *command_line_many.FLEET):
        if not args.list and getattr(args, name):
            arguments.error(f"--{name.replace('_', '-')} has no meaning without --list")
    if args.list and args.viewer:
        arguments.error("--viewer has no meaning with --list; look at one of its runs with view_avatar.py")


def _many(args: argparse.Namespace) -> int:
    """The subjects of a list: captures, runs and logs in one folder, a summary, and 1 where something failed."""
    from fleet import summary
    from fleet.scheduler import run
    from fleet.subjects import merged, only, read_list
    from fleet.tasks import Place, subject_tasks
    from fleet.view import View

    subjects = only(read_list(args.list), args.only)

    from fitting.config import FitConfig
    from fitting.config_files import load_preset
    from preprocess.pipeline import PreprocessConfig

    common = {name: getattr(args, name) for name in _FOR_EACH} | {"preset": args.preset or "default"}
    options = [merged(common, subject.options) for subject in subjects]
    for preset in {chosen["preset"] for chosen in options}:  # what is wrong with them, now and once
        load_preset(preset, FitConfig, args.overrides)
    for chosen in options:
        PreprocessConfig(chosen["size"], chosen.get("start"), chosen.get("end"), focal=chosen.get("focal"))
    if args.cluster is None:
        command_line.device(args.device)
    place = Place((args.out or Path("runs") / args.list.stem).absolute())
    device = args.device if args.gpu_preprocessing else "cpu"
    resources = command_line_many.resources(args, device), command_line_many.resources(args, args.device)
    chains = [
        subject_tasks(subject, place, chosen, *resources, gpu=args.device != "cpu", gpu_first=device != "cpu",
                      tidy=args.tidy, stages=(args.stage,) if args.stage else ("preprocess", "fit"))
        for subject, chosen in zip(subjects, options)
    ]  # fmt: skip
    command_line.resume_with("the same command goes on: what is finished is kept")
    outcome = run(chains, command_line_many.pool(args, len(chains)), View("subjects"))
    found = summary.rows(outcome) if args.only else summary.write(place.root, outcome)
    print(summary.text(place.root, outcome, found))
    return summary.exit_code(outcome)


def _demo_folder(root: Path) -> Path:
    return root.parent / ".demo"


def _list_settings() -> None:
    from fitting.config import FitConfig
    from fitting.config_files import listing

    print(listing(FitConfig))


if __name__ == "__main__":
    command_line.run(main)
