"""How fast avatars play: frames a second, their slowest percent, and what a frame is spent on.

    python -m benchmarks.playback [RUN ...] [--sizes 256 512] [--threads 2] [--json FILE]

Each RUN (or bundle) plays its own recording: every frame has a new expression and pose, so that
nothing comes from memory. Without one, a made head plays random states: the avatar of --preset with
--gaussians Gaussians. Every renderer that runs on this machine is measured. A frame is Player.step;
avatar and rasteriser are timed apart in a second round, on CUDA with the GPU waited for. There,
"pipelined" in the JSON is a frame of many in a row with one wait at the end, as a film is rendered,
and "peak_memory_mb" the most that the GPU held for it. Times are by the clock: nothing else should
run. With --evaluations, on CUDA, each of these has a row of its own. Where tinycudann is, there is
a row more, of networks evaluated by it; "networks" in the JSON says which it could take. "Times
plain" in the JSON is against the avatar as it trains, in PyTorch's operations, with the same
rasteriser.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from benchmarks.common.synthetic_head import head_like_scene
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.networks import NetworksConfig, describe, why_not
from likeness.playback import fused
from likeness.playback.evaluators import EVALUATIONS, Evaluation
from likeness.playback.player import Player
from likeness.renderers.cpu import THREADS_VARIABLE
from likeness.scene.head_state import HeadState

_RIG_VERTICES = 4706  # of the default head model
_MIN_FRAMES = 20
_CODES = 24  # of most exported avatars
PARTS = ("frame", "avatar", "rasteriser")


def renderers(only: Sequence[str] | None = None) -> dict[str, str]:
    """The device of each fast renderer that runs here, by name; those asked for, where some are."""
    found = {"cpu": "cpu"}
    if torch.cuda.is_available() and importlib.util.find_spec("gsplat"):
        found["gsplat"] = "cuda"
    if unknown := set(only or ()) - set(found):
        raise SystemExit(
            f"--renderers: {', '.join(sorted(unknown))} does not run here, only {', '.join(found)}"
        )
    return {name: device for name, device in found.items() if only is None or name in only}


def made_bundle(preset: str, count: int, size: int = 512, frames: int = 60) -> AvatarBundle:
    """A head of ``count`` Gaussians with random bases, as the preset's avatar, and a recording of
    random states."""
    from likeness.fitting.avatars import AVATARS, AvatarShape, TrainingStates
    from likeness.fitting.config import FitConfig
    from likeness.scene.camera import Camera
    from likeness.scene.config_files import load_preset
    from likeness.scene.rig_binding import RigBinding
    from likeness.scene.seeds import Seeds
    from likeness.scene.transforms import make_transform, rotvecs_to_matrices

    config = load_preset(preset, FitConfig)
    cloud, camera = head_like_scene(count, size, 0)
    g = torch.Generator().manual_seed(0)
    # from here on the world is the camera's frame
    rest = HeadState.neutral(52, 2, camera.T_cam_world)
    turns = make_transform(
        rotvecs_to_matrices(0.1 * torch.randn(frames, 3, generator=g)), torch.zeros(frames, 3)
    )
    recording = HeadState(
        torch.rand(frames, 52, generator=g),
        rest.joints.expand(frames, -1, -1),
        rest.T_world_head @ turns,
        rest.T_world_body.expand(frames, 4, 4),
    )
    avatar = AVATARS[config.avatar](
        config.avatar_config(), AvatarShape(count, 52, 2, _RIG_VERTICES)
    )
    seeds = Seeds(cloud, torch.full((count,), 0.5), RigBinding.empty(count, 52, _RIG_VERTICES))
    avatar.initialize(seeds, TrainingStates(recording.expression, recording.T_head_body))
    avatar.advance(config.schedule.iterations)
    with torch.no_grad():
        if "basis" in avatar.per_gaussian:
            avatar.per_gaussian["basis"].copy_(
                torch.randn(avatar.per_gaussian["basis"].shape, generator=g)
            )
        if hasattr(avatar, "mlp"):
            avatar.mlp[-1].weight.copy_(0.1 * torch.randn(avatar.mlp[-1].weight.shape, generator=g))
    times = torch.arange(frames, dtype=torch.float64) / 25
    ranges = torch.stack([recording.expression.amin(0), recording.expression.amax(0)])
    names = tuple(f"expression_{index}" for index in range(52))
    world = Camera(camera.K, torch.eye(4), size, size)
    return AvatarBundle(
        avatar.eval(),
        "made",
        names,
        ("eye_left", "eye_right"),
        ranges,
        world,
        rest,
        recording,
        times,
        {},
    )


def as_exported(bundle: AvatarBundle) -> AvatarBundle:
    """A made head as a linear avatar with random modes, of the kind and the sizes that are
    exported."""
    from likeness.fitting.avatars import AVATARS, AvatarShape
    from likeness.fitting.avatars.linear import LinearConfig

    avatar, g = bundle.avatar, torch.Generator().manual_seed(0)
    with torch.no_grad():
        cloud = avatar(bundle.default_state, torch.zeros(3))
        coefficients = min(cloud.sh.shape[1], 4)
        config = LinearConfig(
            _CODES,
            hidden_size=128,
            sh_degree=round(coefficients**0.5) - 1,
            anchoring=avatar.anchoring.config,
        )
        vertices = avatar.rig_shapes.shape[1] if config.anchoring.rigged else 0
        linear = AVATARS["linear"](config, AvatarShape(avatar.num_gaussians, 52, 2, vertices))
        linear.load_state_dict(avatar.state_dict(), strict=False)
        p = linear.per_gaussian
        looks = torch.cat(
            [torch.logit(cloud.opacities, 0.01)[:, None], cloud.sh[:, :coefficients].flatten(1)], 1
        )
        p["base_looks"].copy_(looks)
        for name in ("look_modes", "motion_modes"):
            p[name].copy_(0.05 * torch.randn(p[name].shape, generator=g))
    return dataclasses.replace(bundle, avatar=linear.eval())


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
    lines = [
        "| what plays | avatar | Gaussians | renderer | size | FPS, median | FPS, slowest percent | "
        "frame, ms | avatar, ms | rasteriser, ms |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        cells = [
            f"{row['times'][part]['median_ms']:.1f} ({row['times'][part]['p99_ms']:.1f})"
            for part in PARTS
        ]
        lines.append(
            f"| {row['name']} | `{row['avatar']}` | {row['gaussians']} | {row['renderer']} | {row['size']}² | "
            f"{row['fps']:.1f} | {row['fps_of_the_slowest_percent']:.1f} | {' | '.join(cells)} |"
        )
    return "\n".join([*lines, "", "Milliseconds are medians, in brackets 99th percentiles."])


def main(arguments: Sequence[str] | None = None) -> None:
    from likeness.cli.command_line import available_cores

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="runs or bundles (default: a made head)"
    )
    parser.add_argument(
        "--preset", default="default", metavar="NAME", help="of the made head (default: default)"
    )
    parser.add_argument(
        "--gaussians",
        type=int,
        nargs="+",
        default=[20_000],
        metavar="N",
        help="of the made head (default: 20000)",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[256, 512],
        metavar="PIXELS",
        help="sides of the pictures (default: 256 512)",
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
        help="the made head as a linear avatar, as it is exported",
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
            made = made_bundle(options.preset, count)
            yield "made head", as_exported(made) if options.exported else made


if __name__ == "__main__":
    from likeness.cli import command_line

    command_line.run(main)
