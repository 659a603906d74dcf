"""Adam's update in numba: one sweep over a parameter, its two moments and its gradient.

A gradient that is a sum of outer products (of blended bases, see
``likeness.fitting.avatars.blending``) is made row by row in the cache and never lies in memory as a
whole.
"""

from __future__ import annotations

import numba
import numpy as np

from likeness.ops.adam_blend_kernels import AS_PYTORCH, step
from likeness.ops.compilation import helper, kernel

_PART = 1 << 14  # numbers of a task


@kernel(AS_PYTORCH, parallel=True)
def sweep(values, first, second, gradient, numbers):
    """One step of Adam on values, moments and gradient [M].

    numbers: as for ``likeness.ops.adam_blend_kernels.update``.
    """
    count = values.shape[0]
    parts = (count + _PART - 1) // _PART
    for part in numba.prange(parts):
        a, b = part * _PART, min((part + 1) * _PART, count)
        step(values[a:b], first[a:b], second[a:b], gradient[a:b], numbers)


@helper(AS_PYTORCH)
def _expand(codes, columns, row):
    """Writes the outer product of codes [B] and columns [f] into ``row`` [B * f]."""
    size = columns.shape[0]
    for b in range(codes.shape[0]):
        code, part = codes[b], row[b * size : (b + 1) * size]
        for j in range(size):
            part[j] = code * columns[j]


@helper(AS_PYTORCH)
def _add(a, row):
    for i in range(row.shape[0]):
        row[i] += a[i]


@kernel(AS_PYTORCH, parallel=True)
def sweep_factors(values, first, second, dense, codes, columns, numbers):
    """One step on rows [N, B * f] whose gradient is Σ_k codes[k] ⊗ columns[k, n], plus ``dense`` [N
    or 0, B * f].

    codes: [K, B]. columns: [K, N, f].
    """
    length, count = values.shape[1], values.shape[0]
    parts = max(1, count // 256)
    for part in numba.prange(parts):
        row, other = np.empty(length, values.dtype), np.empty(length, values.dtype)
        for n in range(count * part // parts, count * (part + 1) // parts):
            _expand(codes[0], columns[0, n], row)
            for k in range(1, codes.shape[0]):
                _expand(codes[k], columns[k, n], other)
                _add(other, row)
            if dense.shape[0] > 0:
                _add(dense[n], row)
            step(values[n], first[n], second[n], row, numbers)
