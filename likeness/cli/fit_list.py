"""likeness fit --list: many subjects."""

from __future__ import annotations

import argparse
from pathlib import Path

from likeness.cli import many_subjects
from likeness.scene.devices import choose_device

# What the command line says for all subjects of a list, and a line of it for one.
_FOR_EACH = "minutes iterations preset overrides init seed size matting tracking start end focal"


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Options that mean nothing with the others given are errors."""
    for name in ("stage", "gpu_preprocessing", "tidy", *many_subjects.PLACEMENT):
        if not args.list and getattr(args, name):
            parser.error(f"--{name.replace('_', '-')} has no meaning without --list")
    if args.list and args.viewer:
        parser.error(
            "--viewer has no meaning with --list; look at one of its runs with likeness view"
        )


def run_list(args: argparse.Namespace) -> int:
    """The subjects of a list: captures, runs and logs in one folder, a summary, and 1 where
    something failed."""
    from likeness.collection.subjects import merged, only, read_list

    subjects = only(read_list(args.list), args.only)

    from likeness.collection import report
    from likeness.collection.tasks import Workspace, fit_task, preprocess_task
    from likeness.fitting.config import FitConfig
    from likeness.preprocess.pipeline import PreprocessConfig
    from likeness.scene.config_files import load_preset

    common = {name: getattr(args, name) for name in _FOR_EACH.split()}
    common["preset"] = args.preset or "default"
    options = [merged(common, subject.options) for subject in subjects]
    for preset in {chosen["preset"] for chosen in options}:  # what is wrong with them, now and once
        load_preset(preset, FitConfig, args.overrides)
    for chosen in options:
        PreprocessConfig(
            chosen["size"], chosen.get("start"), chosen.get("end"), focal=chosen.get("focal")
        )
    if args.cluster is None:
        choose_device(args.device)
    workspace = Workspace((args.out or Path("runs") / args.list.stem).absolute())
    device = args.device if args.gpu_preprocessing else "cpu"
    preprocessing = many_subjects.resources(args, device)
    fitting = many_subjects.resources(args, args.device)
    chains = []
    for subject, chosen in zip(subjects, options):
        tasks = (
            preprocess_task(subject, workspace, chosen, preprocessing, gpu=device != "cpu"),
            fit_task(subject, workspace, chosen, fitting, gpu=args.device != "cpu", tidy=args.tidy),
        )
        chains.append([task for task in tasks if args.stage in (None, task.stage)])
    outcome = many_subjects.run(args, chains, "subjects")
    rows = report.summary(outcome)
    if args.only is None:
        report.write_summary(workspace.root, rows)
    print(report.summary_text(workspace.root, outcome, rows))
    return int(bool(outcome.failures))
