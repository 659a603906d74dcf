"""How fast avatars play: frames a second, their slowest percent, and what a frame is spent on.

    python -m benchmarks.playback [RUN ...] [--sizes 256 512] [--threads 2] [--json FILE]

Each RUN (or bundle) plays its own recording: every frame has a new expression and pose, so that
nothing comes from memory. Without one, a synthetic head plays random states: the avatar of --preset
with --gaussians Gaussians. Every renderer that runs on this machine is measured. A frame is
Player.step; avatar and rasteriser are timed apart in a second round, on CUDA with the GPU waited
for. There, "pipelined" in the JSON is a frame of many in a row with one wait at the end, as a film
is rendered, and "peak_memory_mb" the most that the GPU held for it. Times are by the clock: nothing
else should run. With --evaluations, on CUDA, each of these has a row of its own. Where tinycudann
is, there is a row more, of networks evaluated by it; "networks" in the JSON says which it could
take. "Times plain" in the JSON is against the avatar as it trains, in PyTorch's operations, with
the same rasteriser.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.device_times import PeakMemory, is_cuda, pipelined_ms
from benchmarks.common.figures import Kept, announced, with_load_after
from benchmarks.common.synthetic_head import as_exported, synthetic_bundle
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.networks import NetworksConfig, describe, why_not
from likeness.playback import fused
from likeness.playback.evaluators import EVALUATIONS, Evaluation
from likeness.playback.player import Player
from likeness.renderers.cpu import THREADS_VARIABLE
from likeness.scene.head_state import HeadState

_MIN_FRAMES = 20
PARTS = ("frame", "avatar", "rasteriser")


def renderers(only: Sequence[str] | None = None) -> dict[str, str]:
    """The device of each fast renderer that runs here, by name; those asked for, where some are."""
    devices = {"cpu": "cpu"}
    if torch.cuda.is_available() and importlib.util.find_spec("gsplat"):
        devices["gsplat"] = "cuda"
    if unknown := set(only or ()) - set(devices):
        raise SystemExit(
            f"--renderers: {', '.join(sorted(unknown))} does not run here, only "
            f"{', '.join(devices)}"
        )
    return {name: device for name, device in devices.items() if only is None or name in only}


def evaluations(asked: Sequence[Evaluation], bundle: AvatarBundle, device: str) -> list[Evaluation]:
    """Those that there are for an avatar on a device."""
    if device != "cuda":
        return ["torch"]
    return [name for name in asked if name != "fused" or fused.why_not(bundle.avatar) is None]


def measure(
    bundle: AvatarBundle,
    renderer: str,
    device: str,
    size: int,
    seconds: float,
    evaluation: Evaluation = "torch",
    networks: str = "torch",
) -> dict[str, Any]:
    """Frames a second, and milliseconds (median and 99th percentile) of a frame, the avatar and the
    rasteriser."""
    memory = PeakMemory(device)
    player = Player(
        bundle, device, renderer, evaluation=evaluation, networks=NetworksConfig(networks)
    )
    camera = player.camera.resized(size, size)
    states = [bundle.recording[index].to(device) for index in range(len(bundle.recording))]
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def step(state: HeadState) -> list[float]:
        begun = time.perf_counter()
        player.step(state, camera)
        wait()
        return [begun, time.perf_counter()]

    @torch.no_grad()
    def plain(state: HeadState) -> list[float]:
        begun = time.perf_counter()
        in_head = camera.in_frame(state.T_world_head)
        player.renderer.render(as_trained(state, in_head.center), in_head)
        wait()
        return [begun, time.perf_counter()]

    @torch.no_grad()
    def apart(state: HeadState) -> list[float]:
        in_head = camera.in_frame(state.T_world_head)
        wait()
        begun = time.perf_counter()
        cloud = player.cloud(state, in_head.center)
        wait()
        middle = time.perf_counter()
        player.renderer.render(cloud, in_head)
        wait()
        return [begun, middle, time.perf_counter()]

    (frame,) = _rounds(step, states, seconds)
    on_cuda = {}
    if is_cuda(device):
        ms = pipelined_ms(
            lambda index: player.step(states[index % len(states)], camera), device, len(frame)
        )
        on_cuda = {
            "pipelined_ms": ms,
            "pipelined_fps": round(1000 / ms, 1),
            "peak_memory_mb": memory.mb(),
        }
    avatar, rasteriser = _rounds(apart, states, seconds)
    as_trained = bundle.avatar.duplicate(lambda tensor: tensor.to(device))
    (unprepared,) = _rounds(plain, states, seconds)
    times = dict(zip(PARTS, map(summary, (frame, avatar, rasteriser))))
    times_plain = summary(unprepared)["median_ms"] / times["frame"]["median_ms"]
    return {
        "avatar": bundle.avatar.kind,
        "gaussians": bundle.avatar.num_gaussians,
        "size": size,
        "renderer": ", ".join(
            [renderer, *(name for name in (evaluation, networks) if name != "torch")]
        ),
        "networks": describe(player.choices),
        "times_plain": round(times_plain, 2),
        "frames": len(frame),
        "fps": round(1000 / times["frame"]["median_ms"], 1),
        "fps_of_the_slowest_percent": round(1000 / times["frame"]["p99_ms"], 1),
        "times": times,
        **on_cuda,
    }


def _rounds(
    run: Callable[[HeadState], list[float]], states: Sequence[HeadState], seconds: float
) -> list[list[float]]:
    """The milliseconds between the clock readings of ``run``, one list per interval, over as many
    states as fit."""
    for state in states[:3]:
        run(state)
    rows, begun = [], time.perf_counter()
    while len(rows) < _MIN_FRAMES or time.perf_counter() - begun < seconds:
        readings = run(states[len(rows) % len(states)])
        rows.append([1000 * (b - a) for a, b in zip(readings, readings[1:])])
    return [list(column) for column in zip(*rows)]


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile: the smallest time that 99 % of the frames do not exceed."""
    ordered = sorted(milliseconds)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {
        "median_ms": round(middle, 3),
        "p99_ms": round(ordered[math.ceil(0.99 * len(ordered)) - 1], 3),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    columns = "what plays", "avatar", "Gaussians", "renderer", "size"
    columns += "FPS, median", "FPS, slowest percent", *(f"{part}, ms" for part in PARTS)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = row["name"], f"`{row['avatar']}`", row["gaussians"], row["renderer"]
        cells += f"{row['size']}²", f"{row['fps']:.1f}", f"{row['fps_of_the_slowest_percent']:.1f}"
        times = (row["times"][part] for part in PARTS)
        cells += tuple(f"{t['median_ms']:.1f} ({t['p99_ms']:.1f})" for t in times)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", "Milliseconds are medians, in brackets 99th percentiles."])


def main(arguments: Sequence[str] | None = None) -> None:
    from likeness.cli.command_line import available_cores

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="runs or bundles (default: a synthetic head)",
    )
    parser.add_argument(
        "--preset",
        default="default",
        metavar="NAME",
        help="of the synthetic head (default: default)",
    )
    parser.add_argument(
        "--gaussians",
        type=int,
        nargs="+",
        default=[20_000],
        metavar="N",
        help="of the synthetic head (default: 20000)",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[256, 512],
        metavar="PIXELS",
        help="sides of the images (default: 256 512)",
    )
    parser.add_argument(
        "--threads", type=int, default=available_cores(), metavar="N", help="default: all cores"
    )
    parser.add_argument(
        "--renderers", nargs="+", metavar="NAME", help="only these (default: all that run here)"
    )
    parser.add_argument(
        "--exported",
        action="store_true",
        help="the synthetic head as a linear avatar, as it is exported",
    )
    parser.add_argument(
        "--evaluations",
        nargs="+",
        choices=EVALUATIONS,
        default=["torch"],
        metavar="NAME",
        help=f"on CUDA: of {', '.join(EVALUATIONS)} (default: torch)",
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="time for each figure (default: 5)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the figures to this file, as they come",
    )
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    os.environ[THREADS_VARIABLE] = str(options.threads)
    conditions = announced()
    kept = Kept(options.json, machine=conditions)
    for name, bundle in _what_plays(options):
        for renderer, device in renderers(options.renderers).items():
            for size in options.sizes:
                backends = (
                    ("torch",)
                    if why_not(device) or not bundle.avatar.networks()
                    else ("torch", "tinycudann")
                )
                kinds = evaluations(options.evaluations, bundle, device)
                for evaluation, networks in itertools.product(kinds, backends):
                    row = measure(
                        bundle, renderer, device, size, options.seconds, evaluation, networks
                    )
                    kept.add({"name": name, "threads": options.threads, **row})
    print(f"\n{markdown(kept.rows)}")
    kept.note(machine=with_load_after(conditions))


def _what_plays(options: argparse.Namespace):
    from likeness.playback.bundles import load_bundle

    for run in options.runs:
        yield (run.parent if run.name == "bundle" else run).name, load_bundle(run)
    if not options.runs:
        for count in options.gaussians:
            bundle = synthetic_bundle(options.preset, count)
            yield "synthetic head", as_exported(bundle) if options.exported else bundle


if __name__ == "__main__":
    from likeness.cli import command_line

    command_line.run(main)
