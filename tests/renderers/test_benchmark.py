"""The benchmark's scene is what its docstring says, and its ratios are what they are called."""

from __future__ import annotations

import torch

from benchmarks.common.synthetic_head import head_like_scene
from benchmarks.rasterizer import ratios, time_renderer
from likeness.renderers.cpu import CpuRenderer


def test_scene_is_head_like() -> None:
    cloud, camera = head_like_scene(5000, 128)
    output = CpuRenderer(1).render(cloud, camera, screen=True)
    covered = (output.alpha > 0.5).float().mean().item()
    assert 0.65 <= covered <= 0.8
    assert output.screen.visible.all()
    assert torch.equal(cloud.means, head_like_scene(5000, 256)[0].means)


def test_times_of_a_small_scene() -> None:
    times = time_renderer(CpuRenderer(1), *head_like_scene(50, 16), seconds=0.0)
    assert set(times) == {"forward", "backward", "playback"}
    assert all(
        0 < row["min_ms"] <= row["median_ms"] and row["cpu_ms"] > 0 for row in times.values()
    )


def test_ratios() -> None:
    def row(size: int, gaussians: int, threads: int, ms: float) -> dict:
        half = {"min_ms": ms / 2, "cpu_ms": ms / 2}
        return {
            "size": size,
            "gaussians": gaussians,
            "threads": threads,
            "forward": half,
            "backward": half,
        }

    rows = [row(s, n, t, s * n / t) for s in (1, 2) for n in (10, 20, 50) for t in (1, 2)]
    assert list(ratios(rows).values()) == [5.0, 2.0, 2.0]
