"""Nearest points of triangles, in numba: float32 on the CPU. See ``likeness.ops.closest``."""

# pyright: basic

from __future__ import annotations

import numba
import torch

from likeness.ops.compilation import ANY_NUMBER, helper, kernel


def closest_triangles(points, triangles, candidates):
    """See ``likeness.ops.closest.closest_triangles``."""
    count = len(points)
    chosen = torch.empty(count, dtype=torch.long)
    weights, distances = torch.empty(count, 3), torch.empty(count)
    arrays = (points, triangles, candidates, chosen, weights, distances)
    _search(*(tensor.contiguous().numpy() for tensor in arrays))
    return chosen, weights, distances


@helper(ANY_NUMBER)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@helper(ANY_NUMBER)
def _minus(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@helper(ANY_NUMBER)
def _barycentrics(p, a, b, c):
    """Of the nearest point, by the region of the triangle's plane that ``p`` lies over."""
    zero, one = numba.float32(0), numba.float32(1)
    ab, ac, ap = _minus(b, a), _minus(c, a), _minus(p, a)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    if d1 <= zero and d2 <= zero:
        return one, zero, zero
    bp = _minus(p, b)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    if d3 >= zero and d4 <= d3:
        return zero, one, zero
    vc = d1 * d4 - d3 * d2
    if vc <= zero and d1 >= zero and d3 <= zero:
        v = d1 / max(d1 - d3, numba.float32(1e-30))
        return one - v, v, zero
    cp = _minus(p, c)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    if d6 >= zero and d5 <= d6:
        return zero, zero, one
    vb = d5 * d2 - d1 * d6
    if vb <= zero and d2 >= zero and d6 <= zero:
        w = d2 / max(d2 - d6, numba.float32(1e-30))
        return one - w, zero, w
    va = d3 * d6 - d5 * d4
    if va <= zero and d4 - d3 >= zero and d5 - d6 >= zero:
        w = (d4 - d3) / max((d4 - d3) + (d5 - d6), numba.float32(1e-30))
        return zero, one - w, w
    share = one / (va + vb + vc)
    v, w = vb * share, vc * share
    return one - v - w, v, w


@kernel()
def _search(points, triangles, candidates, chosen, weights, distances):
    for n in range(len(points)):
        p = points[n, 0], points[n, 1], points[n, 2]
        best = numba.float32(3e38)
        for k in range(candidates.shape[1]):
            t = triangles[candidates[n, k]]
            a = t[0, 0], t[0, 1], t[0, 2]
            b = t[1, 0], t[1, 1], t[1, 2]
            c = t[2, 0], t[2, 1], t[2, 2]
            u, v, w = _barycentrics(p, a, b, c)
            x = u * a[0] + v * b[0] + w * c[0] - p[0]
            y = u * a[1] + v * b[1] + w * c[1] - p[1]
            z = u * a[2] + v * b[2] + w * c[2] - p[2]
            squared = x * x + y * y + z * z
            if squared < best:
                best = squared
                chosen[n] = candidates[n, k]
                weights[n, 0], weights[n, 1], weights[n, 2] = u, v, w
        distances[n] = best**0.5
