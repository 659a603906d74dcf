"""Options that the programs for many videos share: what is refused, and where tasks run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likeness.cli.command_line import (
    available_cores,
    number,
    option,
    positive_int,
    positive_number,
    resume_with,
    whole,
)
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.collection.pool import Outcome
    from likeness.collection.tasks import Task

LIMITS = ("max_residual", "max_crowded", "max_cuts", "min_eye_distance")
PLACEMENT = ("jobs", "threads", "gpus", "only", "cluster", "ray_address")


def add_limits(parser: argparse._ActionsContainer) -> None:
    """What a video must keep to: --max-residual, --max-crowded, --max-cuts, --min-eye-distance."""
    option(
        parser,
        "--max-residual",
        type=positive_number,
        metavar="P",
        unit="per cent of the eye distance",
        help="refuse videos whose median landmark error is larger",
    )
    option(
        parser,
        "--max-crowded",
        type=number,
        metavar="P",
        unit="fraction from 0 to 1",
        help="refuse videos in which a larger fraction of frames shows several faces",
    )
    option(
        parser,
        "--max-cuts",
        type=_count,
        metavar="N",
        help="refuse videos with a larger number of cuts",
    )
    option(
        parser,
        "--min-eye-distance",
        type=positive_number,
        metavar="D",
        unit="pixels of the video",
        help="refuse videos whose outer eye corners are closer together (median)",
    )


def limits(args: argparse.Namespace) -> dict[str, Any]:
    """Those limits that were given, by their names in ``likeness.preprocess.acceptance.Limits``."""
    return {name: getattr(args, name) for name in LIMITS if getattr(args, name) is not None}


def _count(text: str) -> int:
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return value


def add_placement(parser: argparse._ActionsContainer) -> None:
    """--jobs, --threads, --gpus, --only, --cluster, --ray-address; ``run`` heeds them."""
    option(
        parser,
        "--jobs",
        type=positive_int,
        metavar="N",
        help="number of tasks at once [default: 1; with --cluster as many as fit]",
    )
    option(
        parser,
        "--threads",
        type=positive_int,
        metavar="N",
        help="number of threads of each task [default: the cores divided by --jobs; with "
        "--cluster 4, or all of a smaller machine]",
    )
    option(
        parser,
        "--gpus",
        metavar="LIST",
        help="GPUs to use, such as 0,1; one named twice takes two tasks at once [default: all, one "
        "task each]",
    )
    option(
        parser,
        "--only",
        type=positive_int,
        metavar="K",
        help="only the subject of this number, from 1 on: for job arrays",
    )
    option(
        parser,
        "--cluster",
        choices=("ray",),
        help="run the tasks on a cluster whose machines share the folders of videos, results and "
        "this program",
    )
    option(
        parser,
        "--ray-address",
        metavar="ADDRESS",
        help="the Ray cluster; local starts one on this machine [default: auto]",
    )


def resources(args: argparse.Namespace, device: str) -> tuple[str, ...]:
    """Arguments for a task's program that change where it works and with which files."""
    words = [f"--device={device}"]
    if args.weights is not None:
        words.append(f"--weights={args.weights.absolute()}")
    return tuple(words + ["--offline"] * args.offline)


def run(args: argparse.Namespace, chains: Sequence[Sequence[Task]], label: str) -> Outcome:
    """Runs the tasks of each subject where the options of ``add_placement`` say."""
    from likeness.collection import pool

    resume_with("the same command resumes: what is finished is kept")
    if args.cluster == "ray":
        if args.gpus is not None:
            raise UserError(
                "--gpus: has no meaning with --cluster ray, which knows what each machine has"
            )
        from likeness.collection.ray_cluster import RayWorkers

        return pool.run(
            chains, RayWorkers(args.ray_address or "auto", args.threads, args.jobs), label
        )
    if args.ray_address is not None:
        raise UserError("--ray-address: has no meaning without --cluster ray")
    from likeness.collection.work import LocalWorkers

    jobs = min(args.jobs or 1, max(1, len(chains)))
    threads = args.threads or max(1, available_cores() // jobs)
    return pool.run(chains, LocalWorkers(jobs, threads, _gpus(args.gpus)), label)


def _gpus(asked: str | None) -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES: those asked for, else those that this process sees."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES") if asked is None else asked
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
