"""How a training step and a frame of playback grow with Gaussians, pixels and threads.

    python -m benchmarks.scaling [--presets headgas default] [--gaussians 20000] [--size 512]

Each alone, around so many Gaussians and pixels: processor time on one thread, and the time by the
clock where threads grow. The exponent is the slope of time over size in logarithms: 1 is linear.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common.device_times import clock, time_runs
from benchmarks.common.figures import Kept, announced, parser, table
from benchmarks.common.synthetic_head import synthetic_bundle
from benchmarks.common.training_step import TrainingStep
from likeness.renderers.cpu import THREADS_VARIABLE

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
    from likeness.playback.player import Player

    (step,) = time_runs(TrainingStep(preset, size, count, threads).take, seconds)
    torch.set_num_threads(threads)
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = str(threads)
    try:
        player = Player(synthetic_bundle(preset, count, size))
    finally:
        os.environ.pop(THREADS_VARIABLE) if before is None else os.environ.update(
            {THREADS_VARIABLE: before}
        )
    states, index = player.bundle.recording, 0

    def play() -> list:
        nonlocal index
        index += 1
        start = clock()
        player.step(states[index % len(states)])
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
    titles = ("what", "grows with", "at", "CPU, ms", "by the clock, ms", "exponent")
    by_line, lines = _lines(rows), []
    for row in rows:
        at, times = by_line[row["grows"], row["what"]]
        last = len(at) > 1 and row["at"] == at[-1]
        slope = f"{exponent(at, times):.2f}" if last else ""
        cells = (f"{row['cpu_ms']:.1f}", f"{row['min_ms']:.1f}", slope)
        lines.append((row["what"], row["grows"], row["at"], *cells))
    return table(titles, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--presets", nargs="+", default=["headgas", "default"], metavar="NAME")
    add("--gaussians", type=int, default=20_000, metavar="N", help="in the middle [20000]")
    add("--size", type=int, default=512, metavar="PIXELS", help="in the middle [512]")
    add("--threads", type=int, default=2, metavar="N", help="at most [2]")
    add("--seconds", type=float, default=2.0, help="time for each figure [2]")
    args = options.parse_args(arguments)
    kept = Kept(args.json, machine=announced())
    for row in measure(args.presets, args.size, args.gaussians, args.threads, args.seconds):
        kept.add(row)
    print(f"\n{markdown(kept.rows)}")


if __name__ == "__main__":
    main()
