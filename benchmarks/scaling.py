"""How a training step and a frame of playback grow with Gaussians, pixels and threads; see
benchmarks.fitting."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.device_times import clock, time_runs
from benchmarks.common.training_step import TrainingStep
from likeness.renderers.cpu import THREADS_VARIABLE
from likeness.scene.files import write_bytes

AXES = ("Gaussians", "pixels", "threads")
_FACTORS = (0.25, 0.5, 1, 2)


def measure(
    presets: Sequence[str], size: int, count: int, threads: int, seconds: float
) -> list[dict[str, Any]]:
    """Rows of (what, grows, at, cpu_ms, min_ms): each axis alone, around ``count`` Gaussians at
    ``size`` squared.

    Gaussians and pixels by a quarter to twice as many, on one thread; threads from 1 to
    ``threads``.
    """
    rows = []
    for preset in presets:
        cases = [("Gaussians", round(f * count), size, 1) for f in _FACTORS]
        cases += [("pixels", count, round(size * math.sqrt(f)), 1) for f in _FACTORS]
        cases += [("threads", count, size, n) for n in range(1, threads + 1)]
        for grows, gaussians, side, n in cases:
            at = {"Gaussians": gaussians, "pixels": side**2, "threads": n}[grows]
            for what, times in _both(preset, gaussians, side, n, seconds).items():
                rows.append({"what": f"{preset}, {what}", "grows": grows, "at": at, **times})
    return rows


def _both(
    preset: str, count: int, size: int, threads: int, seconds: float
) -> dict[str, dict[str, float]]:
    """The times of a step and of a frame of playback."""
    from benchmarks.playback import made_bundle
    from likeness.playback.player import Player

    (step,) = time_runs(TrainingStep(preset, size, count, threads).take, seconds)
    torch.set_num_threads(threads)
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = str(threads)
    try:
        player = Player(made_bundle(preset, count, size))
    finally:
        os.environ.pop(THREADS_VARIABLE) if before is None else os.environ.update(
            {THREADS_VARIABLE: before}
        )
    states, shown = player.bundle.recording, 0

    def play() -> list:
        nonlocal shown
        shown += 1
        start = clock()
        player.step(states[shown % len(states)])
        return [start, clock()]

    (frame,) = time_runs(play, seconds)
    return {"step": step, "frame": frame}


def exponent(at: Sequence[float], times: Sequence[float]) -> float:
    """The slope of time over size in logarithms, by least squares: 1 is linear, 0 does not grow."""
    x, y = [math.log(a) for a in at], [math.log(t) for t in times]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def _lines(
    rows: Sequence[dict[str, Any]],
) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Sizes and milliseconds by (grows, what): processor time, but the fastest by the clock over
    threads."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for row in rows:
        at, times = found.setdefault((row["grows"], row["what"]), ([], []))
        at.append(row["at"])
        times.append(row["min_ms" if row["grows"] == "threads" else "cpu_ms"])
    return found


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    lines = ["| what | grows with | at | CPU, ms | by the clock, ms | exponent |", "|" + "---|" * 6]
    by_line = _lines(rows)
    for row in rows:
        at, times = by_line[row["grows"], row["what"]]
        slope = f"{exponent(at, times):.2f}" if len(at) > 1 and row["at"] == at[-1] else ""
        cells = [
            row["what"],
            row["grows"],
            str(row["at"]),
            f"{row['cpu_ms']:.1f}",
            f"{row['min_ms']:.1f}",
            slope,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the figures, both axes in logarithms, into a PNG."""
    import io

    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure = Figure((12, 4), layout="constrained")
    panels = dict(zip(AXES, figure.subplots(1, len(AXES), sharey=True)))
    for (grows, what), (at, times) in _lines(rows).items():
        axes = panels[grows]
        style = "--" if what.endswith("frame") else "-"
        axes.plot(at, times, style, marker="o", label=f"{what}{_slope(at, times)}")
        axes.set(xscale="log", yscale="log", xlabel=grows)
        axes.set_xticks(at, [_label(grows, value) for value in at])
        axes.xaxis.set_minor_locator(NullLocator())
    for grows, axes in panels.items():
        for kind in ("major", "minor"):
            getattr(axes.yaxis, f"set_{kind}_formatter")(ScalarFormatter())
        axes.grid(True, which="both", alpha=0.3)
        axes.legend(fontsize=8)
        axes.set_title(
            "by the clock" if grows == "threads" else "processor time, one thread", fontsize=10
        )
    panels[AXES[0]].set_ylabel("milliseconds")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(path, buffer.getvalue())


def _label(grows: str, value: float) -> str:
    if grows == "pixels":
        return f"{math.isqrt(round(value))}²"
    return f"{value / 1000:g}K" if value >= 1000 else f"{value:g}"


def _slope(at: Sequence[float], times: Sequence[float]) -> str:
    return f": exponent {exponent(at, times):.2f}" if len(at) > 1 else ""
