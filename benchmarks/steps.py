"""Whole training steps a second by preset, and what they are spent on.

    python benchmarks/steps.py [--presets headgas gaussianhead default] [--gaussians 20000] [--size 512] [--threads 2]

A step is what a fit does: avatar, rendering, losses (without VGG), all gradients, the optimizer. The scene is that of
benchmarks/rasterizer.py. Shares are of the processor time of the profiled operations, forward and backward together.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.rasterizer import clock, head_like_scene, time_runs
from renderers.cpu import CpuRenderer
from scene.camera import Camera
from scene.files import write_json

_RIG_VERTICES = 4706  # of the default head model
# Parts of a step by the names of PyTorch's operations (of autograd's functions: backward).
PARTS = {
    "networks": ("aten::addmm", "aten::mm"),
    "tri-plane": ("_Lookup", "_LookupBackward"),
    "expression bases": ("BlendBasis", "BlendBasisBackward"),
    "optimizer": ("Optimizer.step",),
}


def make_step(preset: str, size: int, count: int, threads: int) -> Callable[[], None]:
    """A function that takes one step of a preset on ``count`` Gaussians at ``size`` squared."""
    from fitting import loop, objective, picture_loss
    from fitting.avatars import AVATARS, AvatarShape, TrainingStates
    from fitting.config import FitConfig
    from fitting.config_files import load_preset
    from fitting.memory import keep_pages
    from fitting.optimizers import make_optimizer
    from scene.head_state import HeadState
    from scene.rig import empty_binding
    from scene.seeds import Seeds

    keep_pages()
    picture_loss.compile_kernels()
    torch.set_num_threads(threads)
    config = load_preset(preset, FitConfig)
    cloud, camera = head_like_scene(count, size, 0)
    g = torch.Generator().manual_seed(0)
    avatar = AVATARS[config.avatar](config.avatar_config(), AvatarShape(count, 52, 2, _RIG_VERTICES))
    seen = TrainingStates(torch.rand(100, 52, generator=g), torch.eye(4).expand(100, 4, 4))
    avatar.initialize(Seeds(cloud, torch.full((count,), 0.5), empty_binding(count, 52, _RIG_VERTICES)), seen)
    avatar.warm_up()
    avatar.advance(config.schedule.iterations)
    optimizer, renderer = make_optimizer(avatar, config.optimizer), CpuRenderer(threads)
    pose = camera.T_cam_world  # from here on the world is the camera's frame, as in a capture
    camera = Camera(camera.K, torch.eye(4), size, size)
    rest = HeadState.neutral(52, 2, pose)
    target = torch.rand(size, size, 3, generator=g), torch.rand(size, size, 1, generator=g)

    def step() -> None:
        state = HeadState(torch.rand(52, generator=g), rest.joints, rest.T_world_head, rest.T_world_body)
        background = objective.background_colour(config.objective, g)
        output, _ = loop.render(avatar, renderer, state, camera, config)
        loss, *_ = objective.compute(config.objective, output, target, background, avatar, None, None)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def whole_steps(preset: str, size: int, count: int, threads: int, seconds: float) -> dict[str, Any]:
    """How many steps a second, and the milliseconds of one."""
    step = make_step(preset, size, count, threads)

    def timed() -> list:
        start = clock()
        step()
        return [start, clock()]

    (times,) = time_runs(timed, seconds, most=1000)
    return {
        "preset": preset, "size": size, "gaussians": count, "threads": threads, **times,
        "steps_per_s": round(1000 / times["median_ms"], 1), "best_steps_per_s": round(1000 / times["min_ms"], 1),
    }  # fmt: skip


def shares(preset: str, size: int, count: int, threads: int, steps: int = 5) -> dict[str, float]:
    """Share of a step's processor time by part of PARTS, the renderer and the rest."""
    from torch.profiler import ProfilerActivity, profile

    step = make_step(preset, size, count, threads)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        begun = clock()
        for _ in range(steps):
            step()
        wall = 1e6 * (clock()[0] - begun[0])
    total = {event.key: event.cpu_time_total for event in profiler.key_averages()}

    def spent(names: tuple[str, ...]) -> float:
        return sum(time for key, time in total.items() if any(key == n or key.startswith(f"{n}#") for n in names))

    found = {part: spent(names) / wall for part, names in PARTS.items()}
    found["rasteriser, losses and the rest"] = 1 - sum(found.values())
    return {part: round(share, 3) for part, share in found.items() if share > 0.001}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["headgas", "gaussianhead", "default"], metavar="NAME")
    parser.add_argument("--gaussians", type=int, nargs="+", default=[20_000], metavar="N", help="default: 20000")
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of the picture (default: 512)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--seconds", type=float, default=8.0, help="time per preset (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    rows = []
    for preset in options.presets:
        for count in options.gaussians:
            row = whole_steps(preset, options.size, count, options.threads, options.seconds)
            row["shares"] = shares(preset, options.size, count, options.threads)
            row["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
            rows.append(row)
            parts = ", ".join(f"{part} {100 * share:.0f}%" for part, share in row["shares"].items())
            print(f"{preset} {count} Gaussians: {row['steps_per_s']} steps/s (best {row['best_steps_per_s']}); {parts}",
                  flush=True)  # fmt: skip
    if options.json:
        write_json(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
