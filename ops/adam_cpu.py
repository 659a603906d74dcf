"""Adam's update in numba, in one sweep over values, their moments and their gradient: single or
double precision on the CPU. See ``likeness.ops.adam``.

numbers: [6] 1 - β1, β2, 1 - β2, the rate over the first bias correction, one over the root of the
    second, epsilon; all in the values' dtype.
"""

# pyright: basic

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import helper, kernel

# A NaN must stay one. No approximate divisions or roots: updates are those of PyTorch but for
# roundings.
_AS_PYTORCH = {"contract", "nsz"}


@helper(_AS_PYTORCH)
def _step(values, first, second, gradient, numbers):
    change, square_keep, square_change = numbers[0], numbers[1], numbers[2]
    rate, root, epsilon = numbers[3], numbers[4], numbers[5]
    for i in range(values.shape[0]):
        g = gradient[i]
        m = first[i] + change * (g - first[i])
        v = square_keep * second[i] + square_change * g * g
        first[i] = m
        second[i] = v
        values[i] -= rate * m / (math.sqrt(v) * root + epsilon)


@kernel(_AS_PYTORCH)
def update(start, end, values, first, second, gradient, numbers):
    """One step on the numbers ``start`` to ``end`` of values, moments and gradient [M]."""
    a = slice(start, end)
    _step(values[a], first[a], second[a], gradient[a], numbers)


@helper(_AS_PYTORCH)
def _outer(codes, columns, row):
    """Writes the outer product of codes [B] and columns [f] into ``row`` [B * f]."""
    size = columns.shape[0]
    for b in range(codes.shape[0]):
        code, part = codes[b], row[b * size : (b + 1) * size]
        for j in range(size):
            part[j] = code * columns[j]


@helper(_AS_PYTORCH)
def _add(a, row):
    for i in range(row.shape[0]):
        row[i] += a[i]


@kernel(_AS_PYTORCH)
def update_factors(start, end, values, first, second, dense, codes, columns, numbers):
    """One step on the rows ``start`` to ``end`` of values [N, B * f] whose gradient is
    Σ_k codes[k] ⊗ columns[k, n], plus ``dense`` [N or 0, B * f]: made row by row in the cache.

    codes: [K, B]. columns: [K, N, f].
    """
    length = values.shape[1]
    row, other = np.empty(length, values.dtype), np.empty(length, values.dtype)
    for n in range(start, end):
        _outer(codes[0], columns[0, n], row)
        for k in range(1, codes.shape[0]):
            _outer(codes[k], columns[k, n], other)
            _add(other, row)
        if dense.shape[0] > 0:
            _add(dense[n], row)
        _step(values[n], first[n], second[n], row, numbers)


@kernel(_AS_PYTORCH)
def update_rows(table, first, second, steps, rows, gradient, rate, beta1, beta2, epsilon):
    """One step on the rows [B] of a table [T, M], for their gradients [B, M]; steps: [T, 1], each
    row's own."""
    numbers = np.empty(6, table.dtype)
    for b in range(rows.shape[0]):
        row = rows[b]
        steps[row, 0] += 1
        count = float(steps[row, 0])
        numbers[0], numbers[1], numbers[2] = 1 - beta1, beta2, 1 - beta2
        numbers[3], numbers[4] = rate / (1 - beta1**count), 1 / math.sqrt(1 - beta2**count)
        numbers[5] = epsilon
        _step(table[row], first[row], second[row], gradient[b], numbers)
