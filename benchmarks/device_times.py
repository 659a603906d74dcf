"""Times on a device: between points of its own work, of many calls in a row, and the memory that they took."""

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


def between(parts: Sequence[Callable[[], object]], device: torch.device | str, rounds: int) -> list[float]:
    """Median milliseconds of each of these calls, made one after the other: by CUDA's events, which the device itself
    notes as it passes them, else by the clock. They are called twice before."""
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
                column.append(begun.elapsed_time(ended) if is_cuda(device) else 1000 * (ended - begun))
    return [round(statistics.median(column), 4) for column in columns]


def _mark(device: torch.device | str):
    if not is_cuda(device):
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def pipelined_ms(call: Callable[[int], object], device: torch.device | str, count: int) -> float:
    """Milliseconds of one of ``count`` calls, ``call(0)``, ``call(1)``, ..., that follow each other without a wait; the
    device is waited for once, at the end. What a stream of pictures costs, where a single one costs its latency."""
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
        return round(torch.cuda.max_memory_allocated(self._device) / 1e6, 1) if is_cuda(self._device) else None
