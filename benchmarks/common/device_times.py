"""Times on a device: by the clock, between points of its own work, of many calls in a row, and the
memory they took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def is_cuda(device: torch.device | str) -> bool:
    return torch.device(device).type == "cuda"


def waited(device: torch.device | str) -> float:
    """The clock in seconds, when a GPU has done what it was asked."""
    if is_cuda(device):
        torch.cuda.synchronize(device)
    return time.perf_counter()


Clock = tuple[float, float]


def clock(device: torch.device | str = "cpu") -> Clock:
    """Seconds of time and of processor time (all threads of this process), when a GPU has done what
    it was asked."""
    return waited(device), time.process_time()


def time_runs(
    run: Callable[[], list[Clock]], seconds: float, least: int = 5, most: int = 60
) -> list[dict[str, float]]:
    """Runs something as often as fits into the seconds, after once to warm up.

    ``run`` returns clock readings; each interval between two of them becomes one summary
    (milliseconds).
    """
    run()
    rows, start = [], time.perf_counter()
    while len(rows) < least or (time.perf_counter() - start < seconds and len(rows) < most):
        readings = run()
        rows.append(
            [(1000 * (b[0] - a[0]), 1000 * (b[1] - a[1])) for a, b in zip(readings, readings[1:])]
        )
    return [
        {
            "median_ms": round(statistics.median(wall for wall, _ in column), 3),
            "min_ms": round(min(wall for wall, _ in column), 3),
            "cpu_ms": round(min(cpu for _, cpu in column), 3),
        }
        for column in zip(*rows)
    ]


def between(
    parts: Sequence[Callable[[], object]], device: torch.device | str, rounds: int
) -> list[float]:
    """Median milliseconds of each of these calls, made one after the other: by CUDA's events, which
    the device itself notes as it passes them, else by the clock. They are called twice before."""
    columns: list[list[float]] = [[] for _ in parts]
    for round_number in range(rounds + 2):
        marks = [_mark(device)]
        for part in parts:
            part()
            marks.append(_mark(device))
        if is_cuda(device):
            torch.cuda.synchronize(device)
        if round_number >= 2:
            for column, begun, ended in zip(columns, marks, marks[1:]):
                column.append(
                    begun.elapsed_time(ended) if is_cuda(device) else 1000 * (ended - begun)
                )
    return [round(statistics.median(column), 4) for column in columns]


def _mark(device: torch.device | str):
    if not is_cuda(device):
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def pipelined_ms(call: Callable[[int], object], device: torch.device | str, count: int) -> float:
    """Milliseconds of one of ``count`` calls, ``call(0)``, ``call(1)``, ..., that follow each other
    without a wait; the device is waited for once, at the end. What a stream of images costs,
    where a single one costs its latency."""
    begun = waited(device)
    for index in range(count):
        call(index)
    return round(1000 * (waited(device) - begun) / count, 4)


class PeakMemory:
    """The most memory in MB that PyTorch has held on a GPU since this was made; None elsewhere."""

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        if is_cuda(device):
            torch.cuda.reset_peak_memory_stats(device)

    def mb(self) -> float | None:
        return (
            round(torch.cuda.max_memory_allocated(self._device) / 1e6, 1)
            if is_cuda(self._device)
            else None
        )
