"""Kernels on the CPU: which tensors suit them, and their shares side by side.

Kernels release the GIL, so plain threads do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_MAX_WORKERS = 64
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Threads do not survive a fork: the child makes its own."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def suit_kernels(*tensors: Tensor) -> bool:
    """Whether all tensors are on the CPU and in single precision, as most kernels want them."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def run_rows(function: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """Calls ``function(first, last)`` side by side for parts of ``count`` rows, of at least
    ``least`` rows each, by as many threads as PyTorch uses."""
    shares = max(1, min(torch.get_num_threads(), count // least))
    run_shares(lambda t: function(*share(count, t, shares)), shares)


def share(count: int, t: int, shares: int) -> tuple[int, int]:
    """The first row, and the one after the last, of share ``t`` of ``count`` rows."""
    return count * t // shares, count * (t + 1) // shares


def run_shares(function: Callable[[int], None], shares: int) -> None:
    """Calls ``function(0)`` to ``function(shares - 1)``, the first in this thread, and waits for
    all.

    The threads are shared by all who call, and a share never waits for another, so that any number
    of callers may be at it at the same time.
    """
    if shares == 1:
        function(0)
        return
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_MAX_WORKERS, thread_name_prefix="shares")
    others = [_pool.submit(function, share) for share in range(1, shares)]
    try:
        function(0)
    finally:
        for other in others:
            other.result()
