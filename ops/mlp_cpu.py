"""Blended tables and small networks of many Gaussians, in numba: by blocks of Gaussians that never
leave the cache.

See ``likeness.ops.mlp``. A block's numbers lie channel by channel, [channels, LANES], so that every
instruction works on several Gaussians.
"""

# pyright: basic

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from likeness.ops.compilation import AS_WRITTEN, has_avx512, helper, kernel
from likeness.ops.simd import WIDTH, broadcast, larger, load, muladd, store

LANES = WIDTH
"""Gaussians of a block."""
ROWS = 4 if has_avx512() else 2
"""Outputs of a layer that are summed up at once, in as many registers as there are; layers are
padded to multiples of it."""
PARTS = 4
"""Entries of a table that are blended at once; what is left is filled up with factors of 0."""

_ZERO = np.float32(0)


@helper(AS_WRITTEN)
def _blend(table, row, factors, first, used, offset, x, channel):
    """x[channel] = offset + Σ_u factors[first + u] table[row + used[u]], for a multiple of PARTS
    entries. x: [*, LANES] float32, flat. table: int8 or int16, flat rows of LANES."""
    a, zero = broadcast(offset), broadcast(_ZERO)
    b, c, d = zero, zero, zero
    for u in range(0, used.shape[0], PARTS):
        at = first + u
        a = muladd(broadcast(factors[at]), load(table, (row + used[u]) * LANES), a)
        b = muladd(broadcast(factors[at + 1]), load(table, (row + used[u + 1]) * LANES), b)
        c = muladd(broadcast(factors[at + 2]), load(table, (row + used[u + 2]) * LANES), c)
        d = muladd(broadcast(factors[at + 3]), load(table, (row + used[u + 3]) * LANES), d)
    store(x, channel * LANES, (a + b) + (c + d))


@helper(AS_WRITTEN)
def _layer(weights, at, x, inputs, y, outputs, relu):
    """y[j] += Σ_k weights[at + ...] x[k] for the rows j < outputs of y and k < inputs of x, both
    [*, LANES] and flat; then, if ``relu``, what is negative becomes 0. Weights lie as
    [outputs / ROWS, inputs, ROWS]."""
    zero = broadcast(_ZERO)
    for top in range(0, outputs, ROWS):
        row, place = top * LANES, at + top * inputs
        a, b, c, d = load(y, row), load(y, row + LANES), zero, zero
        if ROWS == 4:
            c, d = load(y, row + 2 * LANES), load(y, row + 3 * LANES)
        for k in range(inputs):
            value = load(x, k * LANES)
            a = muladd(broadcast(weights[place]), value, a)
            b = muladd(broadcast(weights[place + 1]), value, b)
            if ROWS == 4:
                c = muladd(broadcast(weights[place + 2]), value, c)
                d = muladd(broadcast(weights[place + 3]), value, d)
            place += ROWS
        if relu:
            a, b, c, d = larger(a, zero), larger(b, zero), larger(c, zero), larger(d, zero)
        store(y, row, a)
        store(y, row + LANES, b)
        if ROWS == 4:
            store(y, row + 2 * LANES, c)
            store(y, row + 3 * LANES, d)


class Blend(NamedTuple):
    """A table, blended over those b whose codes are not 0."""

    table: np.ndarray  # [blocks, f, B, LANES] int8 or int16
    factors: np.ndarray  # [f, U] what each entry is multiplied with, for the U ``used`` b
    used: np.ndarray  # [U]
    offsets: np.ndarray  # [f] what is added


class Layers(NamedTuple):
    """A small network. Without layers (weights are empty, sizes is [f]) the blend itself is added
    to ``start``."""

    start: np.ndarray  # [blocks, sizes[0], LANES] added to what the first layer makes of the blend
    weights: np.ndarray  # of all layers one after the other, as ``_layer`` reads them
    biases: np.ndarray  # [sizes[1] + ...]
    sizes: np.ndarray  # the layers' padded outputs


@kernel(AS_WRITTEN)
def evaluate(first, last, blend, layers, out):
    """Writes the rows of ``out`` [N, O] that belong to the blocks ``first`` to ``last`` of a
    ``Blend`` that ``Layers`` take."""
    (table, factors, used, offsets), (start, weights, biases, sizes) = blend, layers
    channels, codes, count = table.shape[1], table.shape[2], used.shape[0]
    largest = channels
    for layer in range(sizes.shape[0]):
        largest = max(largest, sizes[layer])
    x, y = np.empty(largest * LANES, np.float32), np.empty(largest * LANES, np.float32)
    entries, flat = table.reshape(-1), factors.reshape(-1)
    for block in range(first, last):
        own = start[block].reshape(-1)
        for i in range(channels):
            row = (block * channels + i) * codes
            _blend(entries, row, flat, i * count, used, offsets[i], x, i)
        if weights.shape[0] == 0:
            for i in range(0, channels * LANES, LANES):
                store(x, i, load(x, i) + load(own, i))
        else:
            y[: own.shape[0]] = own
            _layer(weights, 0, x, channels, y, sizes[0], sizes.shape[0] > 1)
            x, y = y, x
            at, bias = sizes[0] * channels, 0
            for layer in range(1, sizes.shape[0]):
                inputs, outputs = sizes[layer - 1], sizes[layer]
                for j in range(outputs):
                    store(y, j * LANES, broadcast(biases[bias + j]))
                _layer(weights, at, x, inputs, y, outputs, layer + 1 < sizes.shape[0])
                x, y = y, x
                at, bias = at + outputs * inputs, bias + outputs
        row = block * LANES
        for lane in range(min(LANES, out.shape[0] - row)):
            for j in range(out.shape[1]):
                out[row + lane, j] = x[j * LANES + lane]
