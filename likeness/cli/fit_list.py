"""fit_subject.py --list: many subjects."""

from __future__ import annotations

import argparse
from pathlib import Path

from likeness.cli import command_line, many_subjects

# What the command line says for all subjects of a list, and a line of it for one.
_FOR_EACH = (
    "minutes",
    "iterations",
    "preset",
    "overrides",
    "init",
    "seed",
    "size",
    "matting",
    "tracking",
    "start",
    "end",
    "focal",
)


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Options that mean nothing with the others given are errors."""
    for name in ("stage", "gpu_preprocessing", "tidy", *many_subjects.FLEET):
        if not args.list and getattr(args, name):
            parser.error(f"--{name.replace('_', '-')} has no meaning without --list")
    if args.list and args.viewer:
        parser.error(
            "--viewer has no meaning with --list; look at one of its runs with likeness view"
        )


def run_list(args: argparse.Namespace) -> int:
    """The subjects of a list: captures, runs and logs in one folder, a summary, and 1 where
    something failed."""
    from likeness.collection import summary
    from likeness.collection.scheduler import run
    from likeness.collection.subjects import merged, only, read_list
    from likeness.collection.tasks import Place, subject_tasks
    from likeness.collection.view import View

    subjects = only(read_list(args.list), args.only)

    from likeness.fitting.config import FitConfig
    from likeness.preprocess.pipeline import PreprocessConfig
    from likeness.scene.config_files import load_preset

    common = {name: getattr(args, name) for name in _FOR_EACH} | {
        "preset": args.preset or "default"
    }
    options = [merged(common, subject.options) for subject in subjects]
    for preset in {chosen["preset"] for chosen in options}:  # what is wrong with them, now and once
        load_preset(preset, FitConfig, args.overrides)
    for chosen in options:
        PreprocessConfig(
            chosen["size"], chosen.get("start"), chosen.get("end"), focal=chosen.get("focal")
        )
    if args.cluster is None:
        command_line.device(args.device)
    place = Place((args.out or Path("runs") / args.list.stem).absolute())
    device = args.device if args.gpu_preprocessing else "cpu"
    of_tasks = many_subjects.resources(args, device), many_subjects.resources(args, args.device)
    chains = [
        subject_tasks(
            subject,
            place,
            chosen,
            *of_tasks,
            gpu=args.device != "cpu",
            gpu_first=device != "cpu",
            tidy=args.tidy,
            stages=(args.stage,) if args.stage else ("preprocess", "fit"),
        )
        for subject, chosen in zip(subjects, options)
    ]
    command_line.resume_with("the same command goes on: what is finished is kept")
    outcome = run(chains, many_subjects.pool(args, len(chains)), View("subjects"))
    found = summary.rows(outcome) if args.only else summary.write(place.root, outcome)
    print(summary.text(place.root, outcome, found))
    return summary.exit_code(outcome)
