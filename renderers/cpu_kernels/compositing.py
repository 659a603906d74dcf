"""Front-to-back blending of each tile's list: the renderer's inner loop."""

from __future__ import annotations

from renderers.cpu_kernels.compiling import FINITE, inlined, kernel
from renderers.cpu_kernels.exponential import exp2
from renderers.cpu_kernels.layout import (
    ALPHA_MAX,
    BLUE,
    DEPTH,
    GREEN,
    HALF,
    LANES,
    LOG2_ALPHA_MIN,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    NEVER,
    ONE,
    RED,
    S_BLUE,
    S_DEPTH,
    S_GREEN,
    S_RED,
    S_STOP,
    S_T,
    S_X,
    S_Y,
    TILE,
    TRANSMITTANCE_MIN,
    TWO,
    XX,
    XY,
    YY,
    ZERO,
    F,
)  # fmt: skip
from renderers.cpu_kernels.memory import AHEAD, prefetch_row


@inlined()
def polynomial(splat, center_x, center_y):
    """The exponent in a tile's own coordinates: the mean there, and the coefficients of 1, X and Y.

    log2(alpha) = constant + X (linear_x + XX X + XY Y) + Y (linear_y + YY Y).
    """
    mx, my = splat[MEAN_X] - center_x, splat[MEAN_Y] - center_y
    xx, xy, yy = splat[XX], splat[XY], splat[YY]
    constant = splat[LOG2_OPACITY] + mx * (xx * mx + xy * my) + yy * my * my
    return mx, my, constant, -(TWO * xx * mx + xy * my), -(TWO * yy * my + xy * mx)


@inlined()
def _blend(scratch, splat, center_x, center_y, position, depth):
    """Blends one Gaussian over the 64 pixels of a tile; returns the sum of its weights."""
    _, _, constant, linear_x, linear_y = polynomial(splat, center_x, center_y)
    xx, xy, yy = splat[XX], splat[XY], splat[YY]
    red, green, blue, z = splat[RED], splat[GREEN], splat[BLUE], splat[DEPTH]
    total = ZERO
    for lane in range(LANES):
        x, y, t = scratch[S_X + lane], scratch[S_Y + lane], scratch[S_T + lane]
        exponent = constant + x * (linear_x + xx * x + xy * y) + y * (linear_y + yy * y)
        alpha = min(exp2(exponent), ALPHA_MAX)
        alpha = alpha if exponent >= LOG2_ALPHA_MIN else ZERO
        weight = alpha * max(t, ZERO)
        after = t - weight
        finished = (after <= TRANSMITTANCE_MIN) and (t > ZERO)
        weight = ZERO if finished else weight
        scratch[S_T + lane] = -t if finished else after
        scratch[S_STOP + lane] = position if finished else scratch[S_STOP + lane]
        scratch[S_RED + lane] += red * weight
        scratch[S_GREEN + lane] += green * weight
        scratch[S_BLUE + lane] += blue * weight
        if depth:
            scratch[S_DEPTH + lane] += z * weight
        total += weight
    return total


@inlined()
def _any_unfinished(scratch):
    best = -ONE
    for lane in range(LANES):
        best = max(best, scratch[S_T + lane])
    return best > ZERO


def _make_kernel(with_depth: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(FINITE)
    def composite_rows(
        thread, threads, splats, starts, counts, entries, for_backward, scratch, rgb,
        alpha, depth, transmittances, stops,
    ):  # fmt: skip
        """Renders the tile rows of one thread.

        rgb: [H, W, 3], alpha: [H, W], depth: [H, W] (the sum of weight times depth; written only ``with_depth``).
        ``for_backward`` the lists are reduced to the Gaussians that contribute (``counts`` and ``entries`` change),
        and each pixel's final transmittance and the position in the list where it was finished are kept:
        [tiles_y, tiles_x, LANES].
        """
        height, width = alpha.shape
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        for lane in range(LANES):
            scratch[S_X + lane] = F(lane % TILE) - HALF * F(TILE - 1)
            scratch[S_Y + lane] = F(lane // TILE) - HALF * F(TILE - 1)
        for tile_y in range(thread, tiles_y, threads):
            for tile_x in range(tiles_x):
                center_x, center_y = (F(tile_x) + HALF) * F(TILE), (F(tile_y) + HALF) * F(TILE)
                for lane in range(LANES):
                    inside = tile_x * TILE + lane % TILE < width and tile_y * TILE + lane // TILE < height
                    scratch[S_T + lane] = ONE if inside else -ONE
                    scratch[S_STOP + lane] = NEVER
                    scratch[S_RED + lane] = ZERO
                    scratch[S_GREEN + lane] = ZERO
                    scratch[S_BLUE + lane] = ZERO
                    scratch[S_DEPTH + lane] = ZERO

                start, kept = starts[tile_y, tile_x], 0
                end = start + counts[tile_y, tile_x]
                for k in range(start, end):
                    g = entries[k]
                    prefetch_row(splats, entries[min(k + AHEAD, end - 1)])
                    total = _blend(scratch, splats[g], center_x, center_y, F(kept), with_depth)
                    if total > ZERO:
                        if for_backward:
                            entries[start + kept] = g
                        kept += 1
                    elif not _any_unfinished(scratch):
                        break

                if for_backward:
                    counts[tile_y, tile_x] = kept
                    for lane in range(LANES):
                        transmittances[tile_y, tile_x, lane] = abs(scratch[S_T + lane])
                        stops[tile_y, tile_x, lane] = scratch[S_STOP + lane]
                left, top = tile_x * TILE, tile_y * TILE
                for y in range(top, min(top + TILE, height)):
                    for x in range(left, min(left + TILE, width)):
                        lane = (y - top) * TILE + x - left
                        alpha[y, x] = ONE - abs(scratch[S_T + lane])
                        rgb[y, x, 0] = scratch[S_RED + lane]
                        rgb[y, x, 1] = scratch[S_GREEN + lane]
                        rgb[y, x, 2] = scratch[S_BLUE + lane]
                        if with_depth:
                            depth[y, x] = scratch[S_DEPTH + lane]

    return composite_rows


COMPOSITE_ROWS = {with_depth: _make_kernel(with_depth) for with_depth in (False, True)}
"""Kernels by ``with_depth``."""
