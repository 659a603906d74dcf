"""Compiled loop of the ordering of surface points. Import this module lazily: it loads numba."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def farthest_first(points, gains, count):
    """Indices [count] of points [C, 3] (float32), each the farthest from those before it.

    gains: [C] what distances to a point are multiplied by: larger where points shall lie closer.
    """
    order = np.empty(count, np.int64)
    nearest = np.full(len(points), np.float32(1e9))
    current = 0
    for k in range(count):
        order[k] = current
        x, y, z = points[current, 0], points[current, 1], points[current, 2]
        best, chosen = np.float32(-1.0), 0
        for c in range(len(points)):
            dx, dy, dz = points[c, 0] - x, points[c, 1] - y, points[c, 2] - z
            distance = dx * dx + dy * dy + dz * dz
            if distance < nearest[c]:
                nearest[c] = distance
            score = nearest[c] * gains[c]
            if score > best:
                best, chosen = score, c
        current = chosen
    return order
