"""How the C library keeps memory between steps: glibc's defaults cost a fit on a CPU a good part of
its time."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_pages() -> None:
    """Keeps glibc from returning large buffers to the system after every step.

    Each step allocates the same tens of megabytes; fresh pages cost more than the arithmetic on
    them (a factor of 6 on the gradient of HeadGaS's bases). Does nothing where the C library is
    another.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def release_pages() -> None:
    """Returns what is free to the system, once: after Gaussians were added, old buffers no longer
    fit new sizes."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str):
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
