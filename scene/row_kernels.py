"""What lies between the matrix products of a small network, in numba, on blocks of rows that are in the cache.

Any real type on the CPU. See ``fitting.avatars.layers``.
"""

from __future__ import annotations

import numba
import numpy as np

# What is not a number must stay so: comparisons must be honest.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


@numba.njit(**_OPTIONS)
def add_bias(first, last, x, bias, relu):
    """x[n] += bias [c] for the rows ``first`` to ``last`` of x [N, c]; if ``relu``, what is negative then becomes 0."""
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


@numba.njit(**_OPTIONS)
def add_rows(first, last, grad, total):
    """total [c] += the sum of the rows ``first`` to ``last`` of grad [N, c]: a bias's gradient."""
    own = np.zeros_like(total)
    for n in range(first, last):
        row = grad[n]
        for j in range(own.shape[0]):
            own[j] += row[j]
    total += own


@numba.njit(**_OPTIONS)
def stop_at_relu(first, count, grad, values, total):
    """The rows ``first`` to ``first + count`` of values [N, c] are what ReLU gave: where that is 0, the gradient
    grad [count, c] becomes 0. total [c] += the sum of its rows then."""
    zero = total.dtype.type(0)
    own = np.zeros_like(total)
    for n in range(count):
        row, value = grad[n], values[first + n]
        for j in range(own.shape[0]):
            g = zero if value[j] <= zero else row[j]
            row[j] = g
            own[j] += g
    total += own
