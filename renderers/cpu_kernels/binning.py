"""Lists of the Gaussians that reach each tile, from near to far, by the exact ellipse.

Thread t of n owns the tile rows t, t + n, t + 2n...: neighbouring rows cost about the same, so that
the shares are even, and each thread needs only its own lists.
"""

# pyright: basic

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import kernel
from likeness.renderers.cpu_kernels.layout import (
    EXTENT_X,
    EXTENT_Y,
    HALF,
    LOG2_ALPHA_MIN,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    TILE,
    TWO,
    XX,
    XY,
    YY,
    ZERO,
    F,
)
from likeness.renderers.cpu_kernels.memory import AHEAD, prefetch_row
from likeness.renderers.cpu_kernels.rounding import ceil, floor

# Rounding must never lose a pixel: the ellipse is grown by this much (pixels; share and amount of
# log2 alpha).
_SLACK_PIXELS, _SLACK_SHARE, _SLACK_LOG2 = F(0.002), F(1.0005), F(0.002)
_TILE = F(TILE)


@kernel()
def bin_rows(thread, threads, splats, order, drawn, width, height, spans, starts, counts):
    """Finds, for the tile rows of one thread, the runs of tiles that each Gaussian reaches.

    spans: [S, 4] int32: Gaussian, tile row, first and last tile of the run; when S is too small the
        rest is only counted.
    starts, counts: [tiles_y, tiles_x + 1] int32, written for the thread's own rows: where each
    tile's list starts. Returns the number of spans and of list entries needed.
    """
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for row in range(thread, tiles_y, threads):
        counts[row] = 0
    used, capacity = 0, spans.shape[0]
    for k in range(drawn):
        g = order[k]
        prefetch_row(splats, order[min(k + AHEAD, drawn - 1)])
        my, extent_y = splats[g, MEAN_Y], splats[g, EXTENT_Y] + _SLACK_PIXELS
        top = max(0, floor((my - extent_y - HALF) / _TILE))
        bottom = min(tiles_y - 1, floor((my + extent_y - HALF) / _TILE))
        row = top + (thread - top) % threads
        if row > bottom:
            continue
        # The ellipse a dx² + b dx dy + c dy² <= q, with dx, dy from the mean to the pixel.
        mx, extent_x = splats[g, MEAN_X], splats[g, EXTENT_X] + _SLACK_PIXELS
        a, b, c = -splats[g, XX], -splats[g, XY], -splats[g, YY]
        q = (splats[g, LOG2_OPACITY] - LOG2_ALPHA_MIN) * _SLACK_SHARE + _SLACK_LOG2
        half_a, slope = HALF / a, -b * HALF / c
        curvature, constant = b * b - TWO * TWO * a * c, TWO * TWO * a * q
        rightmost = slope * extent_x  # dy of the rightmost point; the leftmost lies opposite
        while row <= bottom:
            low = max(F(row * TILE) + HALF - my, -extent_y)
            high = min(F(row * TILE + TILE - 1) + HALF - my, extent_y)
            if low <= high:
                dy = min(max(rightmost, low), high)
                right = (math.sqrt(max(curvature * dy * dy + constant, ZERO)) - b * dy) * half_a
                dy = min(max(-rightmost, low), high)
                left = (-math.sqrt(max(curvature * dy * dy + constant, ZERO)) - b * dy) * half_a
                first = max(ceil(mx + left - HALF - _SLACK_PIXELS), 0)
                last = min(floor(mx + right - HALF + _SLACK_PIXELS), width - 1)
                if first <= last:
                    first, last = first // TILE, last // TILE
                    if used < capacity:
                        spans[used, 0] = g
                        spans[used, 1] = row
                        spans[used, 2] = first
                        spans[used, 3] = last
                    used += 1
                    counts[row, first] += 1  # differences from tile to tile, summed up below
                    counts[row, last + 1] -= 1
            row += threads
    total = 0
    for row in range(thread, tiles_y, threads):
        length = 0
        for tile in range(tiles_x):
            length += counts[row, tile]
            starts[row, tile] = total
            counts[row, tile] = total
            total += length
    return used, total


@kernel()
def fill_lists(thread, threads, spans, used, starts, counts, entries):
    """Writes the lists of ``bin_rows`` to ``entries``, and their lengths to ``counts``, until then
    where each goes on.

    Unsigned indices: these are not looked at for being negative, which takes as long as the rest.
    """
    for k in range(used):
        g, row = spans[k, 0], np.uint32(spans[k, 1])
        for tile in range(np.uint32(spans[k, 2]), np.uint32(spans[k, 3] + 1)):
            place = np.uint32(counts[row, tile])
            entries[place] = g
            counts[row, tile] = place + np.uint32(1)
    for row in range(thread, counts.shape[0], threads):
        for tile in range(counts.shape[1] - 1):
            counts[row, tile] -= starts[row, tile]
