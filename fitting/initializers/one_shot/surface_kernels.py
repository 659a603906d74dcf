"""Compiled loop of the ordering of surface points. Import this module lazily: it loads numba."""

from __future__ import annotations

import numpy as np
from numba import njit

_CELLS = 16  # along the longest side


@njit(cache=True, nogil=True)
def farthest_first(points, gains, count):
    """Indices [count] of points [C, 3] (float32), each the farthest from those before it.

    gains: [C] what distances to a point are multiplied by: larger where points shall lie closer. Points are kept in
    the cells of a grid: a new point changes nothing in cells that lie further from it than their points from what was
    chosen before, so that most are left alone.
    """
    order = np.empty(count, np.int64)
    members, starts = _in_cells(points)
    cells = len(starts) - 1
    low, high = np.empty((cells, 3), np.float32), np.empty((cells, 3), np.float32)
    for cell in range(cells):
        for axis in range(3):
            values = points[members[starts[cell] : starts[cell + 1]], axis]
            low[cell, axis], high[cell, axis] = values.min(), values.max()
    nearest = np.full(len(points), np.float32(1e9))
    reach = np.full(cells, np.float32(1e9))  # of each cell, the largest of ``nearest``
    best, chosen = np.empty(cells, np.float64), np.zeros(cells, np.int64)  # the largest score and whose it is
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


@njit(cache=True)
def _in_cells(points):
    """Indices of the points cell by cell, in each by number, and where the cells that have any start [cells + 1]."""
    low = np.array([points[:, axis].min() for axis in range(3)])
    size = max([points[:, axis].max() - low[axis] for axis in range(3)]) / _CELLS + 1e-9
    cell = np.zeros(len(points), np.int64)
    for c in range(len(points)):
        for axis in range(3):
            cell[c] = cell[c] * (_CELLS + 1) + int((points[c, axis] - low[axis]) / size)
    members = np.argsort(cell, kind="mergesort")
    starts = [0]
    for m in range(1, len(members)):
        if cell[members[m]] != cell[members[m - 1]]:
            starts.append(m)
    starts.append(len(members))
    return members, np.array(starts)
