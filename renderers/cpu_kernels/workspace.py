"""The memory of one rendering, kept for the next one: fresh pages would cost a millisecond."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from likeness.renderers.cpu_kernels.layout import (
    GRADIENT_COLUMNS,
    LANES,
    SCRATCH,
    SPLAT_COLUMNS,
    TILE,
)

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised array that starts at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size].view(dtype).reshape(shape)


class Workspace:
    """Arrays of a renderer with ``threads`` threads; each grows to the largest size ever asked for.

    One rendering owns a workspace from its forward pass to the end of its backward pass.

    camera: a row of the kernels' camera. order: the drawn Gaussians from near to far, as many as
    ``drawn``. What the passes write.
    """

    camera: np.ndarray
    order: np.ndarray
    drawn: int

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._storage: dict[str, np.ndarray] = {}
        self.scratch = [aligned((SCRATCH,)) for _ in range(threads)]
        self.basis = [aligned((32,)) for _ in range(threads)]
        self.spans = [aligned((4096, 4), np.int32) for _ in range(threads)]
        self.entries = [aligned((1 << 16,), np.int32) for _ in range(threads)]

    def prepare(self, gaussians: int, width: int, height: int) -> None:
        """Makes the arrays of a forward pass available in these sizes."""
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        self.splats = self._array("splats", (gaussians, SPLAT_COLUMNS))
        self.keys = self._array("keys", (2, gaussians), np.uint32)
        self.indices = self._array("indices", (2, gaussians), np.int32)
        self.starts = self._array("starts", (tiles_y, tiles_x + 1), np.int32)
        self.counts = self._array("counts", (tiles_y, tiles_x + 1), np.int32)
        self.transmittances = self._array("transmittances", (tiles_y, tiles_x, LANES))
        self.stops = self._array("stops", (tiles_y, tiles_x, LANES))

    def gradients(self) -> np.ndarray:
        """[threads, N, GRADIENT_COLUMNS], uninitialised."""
        return self._array("gradients", (self.threads, self.splats.shape[0], GRADIENT_COLUMNS))

    def grow_lists(self, thread: int, spans: int, entries: int) -> bool:
        """Makes room for a thread's lists; True when the spans had too little and must be found
        again."""
        if entries > self.entries[thread].shape[0]:
            self.entries[thread] = aligned((entries + entries // 4,), np.int32)
        if spans <= self.spans[thread].shape[0]:
            return False
        self.spans[thread] = aligned((spans + spans // 4, 4), np.int32)
        return True

    def _array(
        self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> np.ndarray:
        size = math.prod(shape)
        stored = self._storage.get(name)
        if stored is None or stored.shape[0] < size:
            stored = self._storage[name] = aligned((size + size // 8,), dtype)
        return stored[:size].reshape(shape)
