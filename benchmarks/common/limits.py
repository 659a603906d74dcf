"""What this machine can give at most: memory bandwidth and arithmetic, measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_NUMBERS = 32 << 20  # 128 MiB: more than caches hold
_SIDE = 1024


def machine_limits(threads: int, device: str = "cpu", repeats: int = 6) -> dict[str, float]:
    """GB/s (the best of copying, scaling in place, summing) and GFLOP/s (a product of matrices),
    single precision."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def fastest(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats + 1):
            wait()
            begun = time.perf_counter(), time.process_time()
            run()
            wait()
            # Alone on one thread by its own time: other work on the machine does not count.
            seconds.append(
                time.process_time() - begun[1]
                if threads == 1 and device == "cpu"
                else time.perf_counter() - begun[0]
            )
        return min(seconds[1:])

    try:
        a, b = torch.ones(_NUMBERS, device=device), torch.empty(_NUMBERS, device=device)
        x, size = torch.rand(_SIDE, _SIDE, device=device), 4 * _NUMBERS
        ways = (
            (2 * size, lambda: b.copy_(a)),
            (2 * size, lambda: a.mul_(1.0)),
            (size, lambda: a.sum()),
        )
        bandwidth = max(moved / fastest(run) for moved, run in ways)
        arithmetic = 2 * _SIDE**3 / fastest(lambda: x @ x)
    finally:
        torch.set_num_threads(before)
    return {"gigabytes_per_s": round(bandwidth / 1e9, 1), "gigaflops": round(arithmetic / 1e9, 1)}


def least_ms(work: tuple[float, float], limits: dict[str, float]) -> float:
    """Milliseconds that so many bytes and operations take at the least, one after the other."""
    moved, operations = work
    return 1e-6 * (moved / limits["gigabytes_per_s"] + operations / limits["gigaflops"])
