"""Sweeps over rows, in numba: what lies between the matrix products of a small network, encodings,
unit quaternions.

Single or double precision on the CPU. See ``likeness.fitting.avatars.layers``,
``likeness.ops.encoding`` and ``likeness.ops.unit_quaternions``.
"""

# pyright: basic

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import kernel


@kernel()
def add_bias(first, last, x, bias, relu):
    """x[n] += bias [c] for the rows ``first`` to ``last`` of x [N, c]; if ``relu``, what is
    negative then becomes 0."""
    zero = bias.dtype.type(0)
    for n in range(first, last):
        row = x[n]
        if relu:
            for j in range(bias.shape[0]):
                value = row[j] + bias[j]
                row[j] = zero if value < zero else value
        else:
            for j in range(bias.shape[0]):
                row[j] += bias[j]


@kernel()
def add_rows(first, last, grad, total):
    """total [c] += the sum of the rows ``first`` to ``last`` of grad [N, c]: a bias's gradient."""
    own = np.zeros_like(total)
    for n in range(first, last):
        row = grad[n]
        for j in range(own.shape[0]):
            own[j] += row[j]
    total += own


@kernel()
def stop_at_relu(first, count, grad, values, total):
    """The rows ``first`` to ``first + count`` of values [N, c] are what ReLU gave: where that is 0,
    the gradient grad [count, c] becomes 0. total [c] += the sum of its rows then."""
    zero = total.dtype.type(0)
    own = np.zeros_like(total)
    for n in range(count):
        row, value = grad[n], values[first + n]
        for j in range(own.shape[0]):
            g = zero if value[j] <= zero else row[j]
            row[j] = g
            own[j] += g
    total += own


@kernel()
def turn(columns, rows):
    """rows [N, c] = columns [c, N], transposed; for small c faster than a general copy."""
    for n in range(rows.shape[0]):
        row = rows[n]
        for k in range(columns.shape[0]):
            row[k] = columns[k, n]


@kernel()
def normalize(quats, units, inverse):
    """Writes units [N, 4] of quats [N, 4], and one over their lengths [N]."""
    one, least = inverse.dtype.type(1), inverse.dtype.type(1e-12)
    for n in range(quats.shape[0]):
        w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        length = np.sqrt(w * w + x * x + y * y + z * z)
        factor = one / (least if length < least else length)
        inverse[n] = factor
        units[n, 0], units[n, 1], units[n, 2], units[n, 3] = (
            factor * w,
            factor * x,
            factor * y,
            factor * z,
        )


@kernel()
def normalize_backward(units, inverse, grad, out):
    """Writes out [N, 4]: the gradient by the quaternions for grad [N, 4] of what ``normalize``
    gave."""
    for n in range(units.shape[0]):
        w, x, y, z = units[n, 0], units[n, 1], units[n, 2], units[n, 3]
        a, b, c, d, factor = grad[n, 0], grad[n, 1], grad[n, 2], grad[n, 3], inverse[n]
        along = w * a + x * b + y * c + z * d
        out[n, 0], out[n, 1] = factor * (a - along * w), factor * (b - along * x)
        out[n, 2], out[n, 3] = factor * (c - along * y), factor * (d - along * z)
