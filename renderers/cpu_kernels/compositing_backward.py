"""The gradient of blending, from the last Gaussian of each tile's list to the first.

With weights w_i = alpha_i T_i and a pixel's gradient g,
dL/dalpha_i = T_i (c_i . g) - (what lies behind i) / (1 - alpha_i), where what lies behind is one running number:
the sum of w_j (c_j . g) over j > i, minus T_end dL/dalpha_pixel.
"""

from __future__ import annotations

from renderers.cpu_kernels.compositing import in_tile
from renderers.cpu_kernels.exponential import exp2
from renderers.cpu_kernels.layout import (
    ALPHA_MAX,
    BLUE,
    DEPTH,
    GRADIENT_COLUMNS,
    GREEN,
    HALF,
    LANES,
    LN2,
    LOG2_ALPHA_MIN,
    ONE,
    RED,
    S_BEHIND,
    S_BLUE,
    S_DEPTH,
    S_GREEN,
    S_RED,
    S_STOP,
    S_T,
    S_X,
    S_Y,
    TILE,
    TWO,
    XX,
    XY,
    YY,
    ZERO,
    F,
)  # fmt: skip
from renderers.cpu_kernels.memory import AHEAD, prefetch_row
from renderers.cpu_kernels.vectors import (
    WIDTH,
    add_lane_sums,
    broadcast,
    load,
    muladd,
    smaller,
    store,
    where,
)  # fmt: skip
from scene.compiling import AS_WRITTEN, inlined, kernel


@inlined(AS_WRITTEN)
def _unblend(scratch, splats, g, sums, center_x, center_y, position, depth, absolute):
    """Takes one Gaussian off the 64 pixels of a tile and adds to its row of gradients (``sums``: all, flat)."""
    my, dx, constant, slope = in_tile(scratch, splats, g, center_x, center_y)
    yy, z, place = broadcast(splats[g, YY]), broadcast(splats[g, DEPTH]), broadcast(position)
    red, green, blue = broadcast(splats[g, RED]), broadcast(splats[g, GREEN]), broadcast(splats[g, BLUE])
    slope_x, xy = broadcast(TWO * splats[g, XX]) * dx, broadcast(splats[g, XY])
    zero, one, least, most = broadcast(ZERO), broadcast(ONE), broadcast(LOG2_ALPHA_MIN), broadcast(ALPHA_MAX)
    sum_red, sum_green, sum_blue, sum_depth = zero, zero, zero, zero
    # Moments of v = alpha dL/dalpha over dy; dx is the same in all rows and comes in afterwards.
    sum_1, sum_y, sum_yy, abs_x, abs_y = zero, zero, zero, zero, zero
    for row in range(0, LANES, WIDTH):
        dy = my - load(scratch, S_Y + row)
        exponent = muladd(dy, muladd(yy, dy, slope), constant)
        drawn = (exponent >= least) & (place < load(scratch, S_STOP + row))
        unclamped = where(drawn, exp2(exponent), zero)
        alpha = smaller(unclamped, most)
        ratio = one / (one - alpha)
        t = load(scratch, S_T + row) * ratio
        store(scratch, S_T + row, t)
        weight = alpha * t
        g_red, g_green, g_blue = load(scratch, S_RED + row), load(scratch, S_GREEN + row), load(scratch, S_BLUE + row)
        own = muladd(red, g_red, muladd(green, g_green, blue * g_blue))
        if depth:
            g_depth = load(scratch, S_DEPTH + row)
            own = muladd(z, g_depth, own)
            sum_depth = muladd(weight, g_depth, sum_depth)
        behind = load(scratch, S_BEHIND + row)
        store(scratch, S_BEHIND + row, muladd(weight, own, behind))
        sum_red = muladd(weight, g_red, sum_red)
        sum_green = muladd(weight, g_green, sum_green)
        sum_blue = muladd(weight, g_blue, sum_blue)
        v = where(unclamped <= most, muladd(weight, own, -alpha * ratio * behind), zero)
        vy = v * dy
        sum_1 = sum_1 + v
        sum_y = sum_y + vy
        sum_yy = muladd(vy, dy, sum_yy)
        if absolute:
            abs_x = abs_x + abs(v * muladd(xy, dy, slope_x))
            abs_y = abs_y + abs(v * muladd(yy + yy, dy, slope))
    sum_x = sum_1 * dx
    ln2 = broadcast(LN2)
    add_lane_sums(  # in the order of the columns G_...
        sums, g * GRADIENT_COLUMNS, sum_red, sum_green, sum_blue, sum_depth, sum_1, sum_x, sum_y, sum_x * dx,
        sum_y * dx, sum_yy, abs_x * ln2, abs_y * ln2, zero, zero, zero, zero,
    )  # fmt: skip


def _make_kernel(with_depth: bool, absolute: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(AS_WRITTEN)
    def composite_rows_backward(
        thread, threads, splats, starts, counts, entries, transmittances, stops, scratch, g_rgb, g_alpha,
        g_depth, gradients,
    ):  # fmt: skip
        """Sums the gradients of the tile rows of one thread into its own ``gradients`` [N, GRADIENT_COLUMNS].

        g_rgb: [H, W, 3], g_alpha: [H, W], g_depth: [H, W] (with respect to the sum of weight times depth).
        """
        height, width = g_alpha.shape
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        gradients[:] = ZERO
        sums = gradients.reshape(-1)
        for lane in range(LANES):
            scratch[S_X + lane] = F(lane % TILE) - HALF * F(TILE - 1)
            scratch[S_Y + lane] = F(lane // TILE) - HALF * F(TILE - 1)
        for tile_y in range(thread, tiles_y, threads):
            for tile_x in range(tiles_x):
                if counts[tile_y, tile_x] == 0:
                    continue
                center_x, center_y = (F(tile_x) + HALF) * F(TILE), (F(tile_y) + HALF) * F(TILE)
                for lane in range(LANES):
                    scratch[S_T + lane] = transmittances[tile_y, tile_x, lane]
                    scratch[S_STOP + lane] = stops[tile_y, tile_x, lane]
                    scratch[S_RED + lane] = ZERO
                    scratch[S_GREEN + lane] = ZERO
                    scratch[S_BLUE + lane] = ZERO
                    scratch[S_DEPTH + lane] = ZERO
                    scratch[S_BEHIND + lane] = ZERO
                left, top = tile_x * TILE, tile_y * TILE
                for y in range(top, min(top + TILE, height)):
                    for x in range(left, min(left + TILE, width)):
                        lane = (y - top) * TILE + x - left
                        scratch[S_RED + lane] = g_rgb[y, x, 0]
                        scratch[S_GREEN + lane] = g_rgb[y, x, 1]
                        scratch[S_BLUE + lane] = g_rgb[y, x, 2]
                        scratch[S_BEHIND + lane] = -scratch[S_T + lane] * g_alpha[y, x]
                        if with_depth:
                            scratch[S_DEPTH + lane] = g_depth[y, x]

                start = starts[tile_y, tile_x]
                for position in range(counts[tile_y, tile_x] - 1, -1, -1):
                    g = entries[start + position]
                    ahead = entries[start + max(position - AHEAD, 0)]
                    prefetch_row(splats, ahead)
                    prefetch_row(gradients, ahead)
                    _unblend(scratch, splats, g, sums, center_x, center_y, F(position), with_depth, absolute)

    return composite_rows_backward


COMPOSITE_ROWS_BACKWARD = {
    (with_depth, absolute): _make_kernel(with_depth, absolute)
    for with_depth in (False, True)
    for absolute in (False, True)
}
"""Kernels by ``with_depth`` and ``absolute`` (whether the absolute gradients of the screen means are wanted)."""
