"""Compiled loop of the ordering of surface points. Import this module lazily: it loads numba."""

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import AS_WRITTEN, kernel

_CELLS = 16  # along the longest side


def farthest_first(points: np.ndarray, gains: np.ndarray, count: int) -> np.ndarray:
    """Indices [count] of points [C, 3] (float32), each the farthest from those before it.

    gains: [C] what distances to a point are multiplied by: larger where points shall lie closer.
        Points are kept in
    the cells of a grid: a new point changes nothing in cells that lie further from it than their
    points from what was chosen before, so that most are left alone.
    """
    members, starts = _in_cells(points)
    ordered = points[members]
    low, high = (reduce.reduceat(ordered, starts[:-1]) for reduce in (np.minimum, np.maximum))
    return _choose(points, gains, count, members, starts, low, high)


def _in_cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the points cell by cell, in each by number, and where the cells that have any
    start [cells + 1]."""
    low = points.min(0)
    size = float((points.max(0) - low).max()) / _CELLS + 1e-9
    cells = ((points - low).astype(np.float64) / size).astype(np.int64) @ (_CELLS + 1) ** np.array(
        [2, 1, 0]
    )
    members = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[members])) + 1
    return members, np.concatenate([[0], starts, [len(members)]])


@kernel(AS_WRITTEN)
def _choose(points, gains, count, members, starts, low, high):
    """As ``farthest_first``. low, high: [cells, 3] around the points of each cell."""
    order = np.empty(count, np.int64)
    cells = len(starts) - 1
    nearest = np.full(len(points), np.float32(1e9))
    reach = np.full(cells, np.float32(1e9))  # of each cell, the largest of ``nearest``
    # the largest score and whose it is
    best, chosen = np.empty(cells, np.float64), np.zeros(cells, np.int64)
    current = 0
    for k in range(count):
        order[k] = current
        x, y, z = points[current, 0], points[current, 1], points[current, 2]
        top, current = -1.0, 0
        for cell in range(cells):
            dx = max(low[cell, 0] - x, x - high[cell, 0], np.float32(0))
            dy = max(low[cell, 1] - y, y - high[cell, 1], np.float32(0))
            dz = max(low[cell, 2] - z, z - high[cell, 2], np.float32(0))
            if k == 0 or dx * dx + dy * dy + dz * dz < reach[cell]:
                best[cell], reach[cell] = -1.0, np.float32(0)
                for m in range(starts[cell], starts[cell + 1]):
                    c = members[m]
                    dx, dy, dz = points[c, 0] - x, points[c, 1] - y, points[c, 2] - z
                    distance = dx * dx + dy * dy + dz * dz
                    if distance < nearest[c]:
                        nearest[c] = distance
                    reach[cell] = max(reach[cell], nearest[c])
                    score = nearest[c] * gains[c]
                    if score > best[cell]:
                        best[cell], chosen[cell] = score, c
            if best[cell] > top or (best[cell] == top and chosen[cell] < current):
                top, current = best[cell], chosen[cell]
    return order
