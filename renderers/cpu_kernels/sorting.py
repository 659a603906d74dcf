"""The drawn Gaussians from near to far."""

# pyright: basic

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from likeness.ops.compilation import kernel
from likeness.ops.simd import intrinsic
from likeness.renderers.cpu_kernels.layout import DEPTH, EXTENT_X, ZERO

_DIGIT_BITS = 12


@intrinsic
def float_bits(typing_context, x):
    """The bits of a float32 as uint32; ordered like the numbers where these are positive."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@kernel()
def sort_by_depth(splats, keys, indices):
    """Stable radix sort of the Gaussians with EXTENT_X > 0 by depth.

    keys: [2, N] uint32 and indices: [2, N] int32 are memory to work in. Returns the number drawn
    and the row of ``indices`` that holds them.
    """
    count = 0
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(splats.shape[0]):
        if splats[i, EXTENT_X] > ZERO:
            key = float_bits(splats[i, DEPTH])
            keys[0, count] = key
            indices[0, count] = i
            low, high = min(low, key), max(high, key)
            count += 1
    if count == 0:
        return 0, 0
    mask = np.uint32((1 << _DIGIT_BITS) - 1)
    starts = np.empty(1 << _DIGIT_BITS, np.int32)
    source, shift, span = 0, np.uint32(0), np.uint32(high - low)
    while np.int64(span) >> np.int64(shift) > 0:
        target = 1 - source
        starts[:] = 0
        for k in range(count):
            starts[(np.uint32(keys[source, k] - low) >> shift) & mask] += 1
        total = np.int32(0)
        for digit in range(starts.shape[0]):
            size = starts[digit]
            starts[digit] = total
            total += size
        for k in range(count):
            digit = (np.uint32(keys[source, k] - low) >> shift) & mask
            place = starts[digit]
            starts[digit] = place + 1
            keys[target, place] = keys[source, k]
            indices[target, place] = indices[source, k]
        source = target
        shift = np.uint32(shift + np.uint32(_DIGIT_BITS))
    return count, source
