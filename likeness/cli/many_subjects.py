"""Options that the programs for many videos share: what is refused, and where tasks run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from likeness.cli.command_line import (
    available_cores,
    number,
    option,
    positive_int,
    positive_number,
    whole,
)
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.collection.scheduler import Pool


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
        unit="part from 0 to 1",
        help="refuse videos in which more of the frames show several faces",
    )
    option(
        parser,
        "--max-cuts",
        type=number_of,
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


def limits(args: argparse.Namespace) -> dict[str, float]:
    """Those limits that were given, by their names in ``likeness.preprocess.acceptance.Limits``."""
    names = ("max_residual", "max_crowded", "max_cuts", "min_eye_distance")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def number_of(text: str) -> int:
    """For ``type=``: a whole number from 0 on."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return value


FLEET = ("jobs", "threads", "memory", "gpus", "only", "cluster", "ray_address")


def add_fleet(parser: argparse._ActionsContainer) -> None:
    """--jobs, --threads, --memory, --gpus, --only, --cluster, --ray-address; resolve them with
    ``pool``."""
    option(
        parser,
        "--jobs",
        type=positive_int,
        metavar="N",
        help="number of tasks at once [default: 1; with --cluster as many as it takes]",
    )
    option(
        parser,
        "--threads",
        type=positive_int,
        metavar="N",
        help="number of threads of each task [default: the cores, shared among the jobs; with --cluster 4, or "
        "what a machine has]",
    )
    option(
        parser,
        "--memory",
        type=positive_number,
        metavar="GB",
        unit="GB",
        help="memory that all tasks together may take; fewer than --jobs run where it is short [default: 90 %% of "
        "what is free]",
    )
    option(
        parser,
        "--gpus",
        metavar="LIST",
        help="GPUs to use, such as 0,1; one named twice takes two tasks at once "
        "[default: all, one task each]",
    )
    option(
        parser,
        "--only",
        type=positive_int,
        metavar="K",
        help="only the subject with this number in the list, from 1 on: for job arrays",
    )
    option(
        parser,
        "--cluster",
        choices=("ray",),
        help="run the tasks on a cluster; all its machines must share the "
        "folders of videos, results and this program",
    )
    option(
        parser,
        "--ray-address",
        metavar="ADDRESS",
        help="the Ray cluster; local starts one on this machine [default: auto]",
    )


def resources(args: argparse.Namespace, device: str) -> tuple[str, ...]:
    """Arguments for a task's program that change where it works and with which files: device,
    weights, offline."""
    found = [f"--device={device}"]
    found += [f"--weights={args.weights.absolute()}"] if args.weights is not None else []
    return tuple(found + ["--offline"] * args.offline)


def pool(args: argparse.Namespace, tasks: int) -> Pool:
    """Where the tasks run, by the options of ``add_fleet``. ``tasks``: how many could run at once
    at most."""
    if args.cluster == "ray":
        for name in ("memory", "gpus"):
            if getattr(args, name) is not None:
                raise UserError(
                    f"--{name}: has no meaning with --cluster ray, which knows what each machine has"
                )
        from likeness.collection.ray_cluster import RayPool

        return RayPool(args.ray_address or "auto", args.threads, args.jobs)
    if args.ray_address is not None:
        raise UserError("--ray-address: has no meaning without --cluster ray")
    from likeness.collection import resources
    from likeness.collection.scheduler import LocalPool

    jobs = min(args.jobs or 1, max(1, tasks))
    threads = args.threads or max(1, available_cores() // jobs)
    gpus = (
        resources.gpus() if args.gpus is None else [name for name in args.gpus.split(",") if name]
    )
    return LocalPool(
        jobs, threads, args.memory * 1024 if args.memory else resources.free_mb(), gpus
    )
