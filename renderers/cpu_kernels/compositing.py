"""Front-to-back blending of each tile's list: the renderer's inner loop."""

from __future__ import annotations

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
    XX,
    XY,
    YY,
    ZERO,
    F,
)  # fmt: skip
from renderers.cpu_kernels.memory import AHEAD, prefetch_row
from renderers.cpu_kernels.vectors import (
    WIDTH,
    any_lane,
    broadcast,
    larger,
    load,
    muladd,
    smaller,
    store,
    where,
)  # fmt: skip
from scene.compiling import AS_WRITTEN, inlined, kernel


@inlined(AS_WRITTEN)
def in_tile(scratch, splats, g, center_x, center_y):
    """One Gaussian in a tile: the mean's y, dx of the pixels of any row, and the exponent there as a polynomial in dy.

    log2(alpha) = constant + dy (slope + YY dy), with dx, dy from the pixel to the mean.
    """
    mx, my = broadcast(splats[g, MEAN_X] - center_x), broadcast(splats[g, MEAN_Y] - center_y)
    dx = mx - load(scratch, S_X)
    constant = muladd(broadcast(splats[g, XX]) * dx, dx, broadcast(splats[g, LOG2_OPACITY]))
    return my, dx, constant, broadcast(splats[g, XY]) * dx


@inlined(AS_WRITTEN)
def _blend(scratch, splats, g, center_x, center_y, position, depth, for_backward):
    """Blends one Gaussian over the 64 pixels of a tile; returns whether any was unfinished and reached."""
    my, _, constant, slope = in_tile(scratch, splats, g, center_x, center_y)
    yy, z, place = broadcast(splats[g, YY]), broadcast(splats[g, DEPTH]), broadcast(position)
    red, green, blue = broadcast(splats[g, RED]), broadcast(splats[g, GREEN]), broadcast(splats[g, BLUE])
    zero, least, most = broadcast(ZERO), broadcast(LOG2_ALPHA_MIN), broadcast(ALPHA_MAX)
    enough = broadcast(TRANSMITTANCE_MIN)
    drawn = zero
    for row in range(0, LANES, WIDTH):
        dy = my - load(scratch, S_Y + row)
        exponent = muladd(dy, muladd(yy, dy, slope), constant)
        alpha = where(exponent >= least, smaller(exp2(exponent), most), zero)
        t = load(scratch, S_T + row)
        weight = alpha * larger(t, zero)
        after = t - weight
        finished = abs(after) <= enough  # never where t < 0: then after = t < -TRANSMITTANCE_MIN
        weight = where(finished, zero, weight)
        store(scratch, S_T + row, where(finished, -t, after))
        if for_backward:
            store(scratch, S_STOP + row, where(finished, place, load(scratch, S_STOP + row)))
        store(scratch, S_RED + row, muladd(red, weight, load(scratch, S_RED + row)))
        store(scratch, S_GREEN + row, muladd(green, weight, load(scratch, S_GREEN + row)))
        store(scratch, S_BLUE + row, muladd(blue, weight, load(scratch, S_BLUE + row)))
        if depth:
            store(scratch, S_DEPTH + row, muladd(z, weight, load(scratch, S_DEPTH + row)))
        drawn = drawn + weight
    return any_lane(drawn > zero)


@inlined(AS_WRITTEN)
def _any_unfinished(scratch):
    best = load(scratch, S_T)
    for row in range(WIDTH, LANES, WIDTH):
        best = larger(best, load(scratch, S_T + row))
    return any_lane(best > broadcast(ZERO))


def _make_kernel(with_depth: bool, for_backward: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(AS_WRITTEN)
    def composite_rows(
        thread, threads, splats, starts, counts, entries, scratch, rgb,
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
                    if _blend(scratch, splats, g, center_x, center_y, F(kept), with_depth, for_backward):
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


COMPOSITE_ROWS = {
    (with_depth, for_backward): _make_kernel(with_depth, for_backward)
    for with_depth in (False, True)
    for for_backward in (False, True)
}
"""Kernels by ``with_depth`` and ``for_backward``."""
