"""Bilinear lookups in planes of features, in numba: float32 on the CPU. See
``likeness.ops.planes``."""

# pyright: basic

from __future__ import annotations

import numba

from likeness.ops.compilation import ANY_NUMBER, inlined, kernel


@inlined(ANY_NUMBER)
def _cell(value, resolution):
    """The lower cell of a coordinate in [-1, 1], the weight of the next one, and whether it moves
    with the value.

    What is not a number is taken for the first cell.
    """
    last = numba.float32(resolution - 1)
    at = (value + numba.float32(1)) * (numba.float32(0.5) * last)
    inside = at > numba.float32(0) and at < last
    if not at > numba.float32(0):
        at = numba.float32(0)
    if at > last:
        at = last
    cell = int(at)
    if cell > resolution - 2:
        cell = max(resolution - 2, 0)
    return cell, at - numba.float32(cell), inside


@kernel()
def gather(table, resolution, groups, num_groups, a, b, out):
    """``out`` [M, c]: the rows of ``table`` [R * R * G, c] around coordinates a (rows) and b
    (columns), [M] each."""
    channels = table.shape[1]
    down = resolution * num_groups if resolution > 1 else 0
    across = num_groups if resolution > 1 else 0
    for m in range(len(a)):
        i, u, _ = _cell(a[m], resolution)
        j, v, _ = _cell(b[m], resolution)
        first = (i * resolution + j) * num_groups + groups[m]
        w11 = u * v
        w10, w01 = u - w11, v - w11
        w00 = numba.float32(1) - u - w01
        r00, r01, r10, r11 = (
            table[first],
            table[first + across],
            table[first + down],
            table[first + down + across],
        )
        row = out[m]
        for c in range(channels):
            row[c] = w00 * r00[c] + w01 * r01[c] + w10 * r10[c] + w11 * r11[c]


@kernel()
def scatter(table, resolution, groups, num_groups, a, b, grad, grad_table, grad_a, grad_b):
    """Adds to ``grad_table`` [R * R * G, c] and writes the gradients by a and b [M], for ``grad``
    [M, c] of ``out``."""
    channels = table.shape[1]
    down = resolution * num_groups if resolution > 1 else 0
    across = num_groups if resolution > 1 else 0
    scale = numba.float32(0.5) * numba.float32(resolution - 1)
    for m in range(len(a)):
        i, u, in_a = _cell(a[m], resolution)
        j, v, in_b = _cell(b[m], resolution)
        first = (i * resolution + j) * num_groups + groups[m]
        w11 = u * v
        w10, w01 = u - w11, v - w11
        w00 = numba.float32(1) - u - w01
        r00, r01, r10, r11 = (
            table[first],
            table[first + across],
            table[first + down],
            table[first + down + across],
        )
        row = grad[m]
        d00 = d01 = d10 = d11 = numba.float32(0)
        for c in range(channels):
            g = row[c]
            d00 += g * r00[c]
            d01 += g * r01[c]
            d10 += g * r10[c]
            d11 += g * r11[c]
        g00, g01 = grad_table[first], grad_table[first + across]
        g10, g11 = grad_table[first + down], grad_table[first + down + across]
        for c in range(channels):
            g00[c] += w00 * row[c]
        for c in range(channels):
            g01[c] += w01 * row[c]
        for c in range(channels):
            g10[c] += w10 * row[c]
        for c in range(channels):
            g11[c] += w11 * row[c]
        one = numba.float32(1)
        grad_a[m] = (
            scale * ((one - v) * (d10 - d00) + v * (d11 - d01)) if in_a else numba.float32(0)
        )
        grad_b[m] = (
            scale * ((one - u) * (d01 - d00) + u * (d11 - d10)) if in_b else numba.float32(0)
        )
