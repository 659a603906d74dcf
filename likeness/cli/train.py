"""Trains the one-shot network, which makes an avatar of one image, on captures of many people.

Example: likeness train --people 300 --minutes 60
Several GPUs: torchrun --nproc-per-node 8 -m likeness train --preset large --data captures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line
from likeness.cli.command_line import COUNT, DIR, MINUTES, option
from likeness.scene.devices import choose_device

if TYPE_CHECKING:
    import torch

    from likeness.training.config import TrainConfig
    from likeness.training.processes import Processes


def parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(__doc__, "train")
    data = parser.add_argument_group("people to train on (at least one of these)")
    option(
        data,
        "--data",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="captures, folders of captures, or text files that list captures",
    )
    text = "also this number of synthetic subjects; missing ones are rendered first"
    option(data, "--people", **COUNT, help=text)
    text = "folder of the synthetic subjects"
    option(data, "--people-dir", **DIR, default=Path("runs/.people"), help=text)
    option(data, "--processes", **COUNT, default=1, help="number of processes that render them")
    training = parser.add_argument_group("training")
    text = "folder of the run; one with a checkpoint in it is resumed"
    option(training, "--out", **DIR, default=Path("runs/one_shot"), help=text)
    command_line.add_config(training, default="embedded")
    length = training.add_mutually_exclusive_group()
    option(length, "--minutes", **MINUTES, help="time to train")
    option(length, "--steps", **COUNT, help="number of steps to train")
    command_line.add_device(training)
    command_line.add_seed(training)
    command_line.add_weights(training)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    arguments = parser()
    args = arguments.parse_args(words)
    from likeness.training.config import TrainConfig

    if args.help_config:
        from likeness.scene.config_files import listing

        return print(listing(TrainConfig))
    if not (args.data or args.people):
        arguments.error("one of --data, --people is needed")
    if args.minutes is None and args.steps is None:
        arguments.error("one of --minutes, --steps is needed")
    from likeness.scene.config_files import CONFIGS, load_preset
    from likeness.scene.files import check_writable
    from likeness.training.processes import join

    device = choose_device(args.device)
    config = load_preset(args.preset, TrainConfig, args.overrides, CONFIGS / "one_shot")
    check_writable(args.out)
    processes = join(device)
    command_line.resume_with("the same command resumes at the last checkpoint")
    path = _train(args, config, _roots(args, processes), device, processes)
    if processes.first:
        use = f"--set initializer=one_shot --set seeds.weights={path}"
        print(f"weights: {path}\nuse them: likeness fit --video ... {use}")


def _roots(args: argparse.Namespace, processes: Processes) -> list[Path]:
    """The captures; synthetic subjects are drawn by the first process while the others wait."""
    from likeness.training.samples import find_captures

    roots = find_captures(args.data) if args.data else []
    if args.people:
        from likeness.synthetic.people import PeopleConfig, folder_of, make_people

        seeds = range(1, args.people + 1)
        if processes.first:
            make_people(args.people_dir, seeds, PeopleConfig(), args.processes)
        processes.agree(0.0)
        roots += [folder_of(args.people_dir, seed) for seed in seeds]
    return roots


def _train(
    args: argparse.Namespace,
    config: TrainConfig,
    roots: list[Path],
    device: torch.device,
    processes: Processes,
) -> Path:
    from likeness.fitting.loop import Budget
    from likeness.training.listeners import JsonLog, ProgressBar, TensorBoardLog
    from likeness.training.run import StopOnSignal, set_up, write_weights

    trainer = set_up(config, roots, device, args.seed, processes, args.weights, not args.offline)
    watching = [ProgressBar(), JsonLog(args.out / "log.jsonl")] if processes.first else []
    if processes.first:
        watching.append(TensorBoardLog(args.out / "tensorboard", config.picture_every_s))
    try:
        with StopOnSignal() as stop:
            budget = Budget(args.minutes, args.steps)
            trainer.train(budget, args.out / "checkpoint.safetensors", watching, stop.requested)
    finally:
        for listener in watching:
            listener.close()
    path = args.out / "one_shot.safetensors"
    if processes.first:
        write_weights(path, trainer)
    return path
