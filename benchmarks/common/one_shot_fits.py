"""Fits that start from different initializers: how their held-out frames come along."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common.one_shot_figures import on_white
from likeness.fitting import metrics
from likeness.fitting.config import FitConfig
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig


def fit_curve(
    capture: Capture,
    base: FitConfig,
    initializer: str,
    seeds: SeedingConfig,
    iterations: int,
    every: int,
    renderer,
) -> list[tuple[int, float]]:
    """Iterations and mean PSNR of held-out frames of a fit, before the first step and then every
    few."""
    from likeness.fitting import loop

    fit_config = dataclasses.replace(base, initializer=initializer, seeds=seeds)
    tested = list(capture.test)[:: -(-len(capture.test) // 12)] or list(capture.train)[:12]
    held = FrameStore(capture, tested)

    def measure(avatar: Any) -> float:
        values = []
        with torch.no_grad():
            for index in tested:
                frame = capture.frames[index]
                output, _ = loop.render(avatar, renderer, frame.state, frame.camera, fit_config)
                values.append(
                    metrics.psnr(output.over(torch.ones(3)).clamp(0, 1), on_white(held, index))
                )
        return statistics.mean(values)

    frames = FrameStore(capture, capture.train)
    curve = [(0, measure(loop.create_avatar(fit_config, capture, frames, 0)))]
    listener = _Every(every, iterations, lambda step, avatar: curve.append((step, measure(avatar))))
    loop.fit(
        capture,
        renderer,
        fit_config,
        loop.Budget(iterations=iterations),
        frames=frames,
        listeners=[listener],
    )
    return curve


class _Every:
    def __init__(self, every: int, last: int, call: Callable[[int, Any], None]) -> None:
        self._every, self._last, self._call = every, last, call

    def on_step(self, info: Any, avatar: Any) -> None:
        if info.step % self._every == 0 or info.step == self._last:
            self._call(info.step, avatar)

    def on_end(self, avatar: Any) -> None:
        return None


def reached(curve: list[tuple[int, float]], psnr: float) -> int | None:
    """The first iteration of a curve with so many dB, or None."""
    return next((step for step, value in curve if value >= psnr), None)
