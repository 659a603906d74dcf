"""likeness fit --image: images instead of a video."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli.command_line import RUN, option, positive_number

if TYPE_CHECKING:
    from likeness.fitting.config import FitConfig
    from likeness.fitting.image_fit import Base

# what says nothing about images
_OF_VIDEOS = ("minutes", "iterations", "viewer", "start", "end", "tracking")
_OF_PICTURES = ("refine", "base")


def add_options(parser: argparse._ActionsContainer) -> None:
    """--refine and --base."""
    kind = {"type": positive_number, "metavar": "S", "unit": "seconds"}
    text = "also optimize the avatar on the images for this long [default: not at all]"
    option(parser, "--refine", **kind, help=text)
    text = "make a new run of this one, with the colours of an edited image"
    option(parser, "--base", **RUN, help=text)


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Options that mean nothing with the others given are errors."""
    for name in _OF_VIDEOS if args.image else _OF_PICTURES:
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} has no meaning {'with' if args.image else 'without'} --image")


def initializer_override(args: argparse.Namespace, kind: str) -> list[str]:
    """--set with --init in its terms. kind: "video" or "pictures"."""
    from likeness.fitting.seedings import AUTO

    chosen = AUTO[kind] if args.init == "auto" else args.init
    return args.overrides + ([] if chosen is None else [f"initializer={chosen}"])


def fit(args: argparse.Namespace, device: str, begun: float) -> None:
    """An avatar of images, or one whose colours they change. begun: when the program did, by
    time.perf_counter."""
    from likeness.fitting.image_fit import Base, fit_pictures, recolour_pictures
    from likeness.fitting.perceptual import LPIPS
    from likeness.fitting.report import write_report
    from likeness.fitting.run_directory import RunDirectory, default_root
    from likeness.playback.image_evaluation import FOLDER, measure_pictures, show_edit
    from likeness.preprocess.portraits.capture import PortraitOptions, build_capture
    from likeness.scene.capture import Capture

    base = Base.open(args.base) if args.base else None
    config, yaml = _picture_config(args, base)
    root = args.out or default_root(Path("runs"), args.image[0].stem)
    RunDirectory.check_free(root)
    seconds = {"start": round(time.perf_counter() - begun, 3)}
    with tempfile.TemporaryDirectory(prefix=".pictures-", dir=root.parent) as folder:
        options = PortraitOptions(args.size, args.focal, args.matting)
        source = build_capture(
            args.image,
            Path(folder),
            options if base is None else base.options(options),
            identity=None if base is None else base.capture.identity,
            device=device,
            weights=args.weights,
            download=not args.offline,
        )
        asked = {
            "images": [str(path) for path in args.image],
            "refine": args.refine,
            "seed": args.seed,
        }
        asked["base"] = None if args.base is None else str(args.base)
        run = RunDirectory.create(root, source.root, asked, yaml)
    capture = Capture.load(run.capture)
    if base is None:
        assert config is not None
        result = fit_pictures(
            run, capture, config, refine_s=args.refine, device=device, seed=args.seed
        )
    else:
        result = recolour_pictures(run, capture, base, device=device)
        capture = Capture.load(run.capture)
        show_edit(base.bundle, result.bundle, capture, run.root / FOLDER, device=device)
    seconds |= {
        name: value for name, value in capture.report["seconds"].items() if name != "total"
    } | result.seconds
    lpips = LPIPS.create(folder=args.weights, download=not args.offline)
    measure_pictures(
        run,
        result.bundle,
        capture,
        seconds,
        result.notes,
        device=device,
        lpips=lpips,
        extra=result.figures,
    )
    report = write_report(run.root)
    print(f"avatar: {run.bundle}\nreport: {report}\nseconds: {time.perf_counter() - begun:.1f}")


def _picture_config(args: argparse.Namespace, base: Base | None) -> tuple[FitConfig | None, str]:
    """The configuration of a run of images (none with a base: nothing is fitted), and the text
    that it is kept as."""
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import load_preset, to_yaml
    from likeness.scene.errors import UserError
    from likeness.scene.reading import read_text

    if base is None:
        config = load_preset(
            args.preset or "one-picture", FitConfig, initializer_override(args, "pictures")
        )
        return config, to_yaml(config)
    if args.preset or args.overrides or args.init or args.refine:
        raise UserError(
            "--base: takes everything from its run; leave out --preset, --set, --init and --refine"
        )
    return None, read_text(base.run.config, "settings of a fit")
