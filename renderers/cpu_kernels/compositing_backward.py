"""The gradient of blending, from the last Gaussian of each tile's list to the first.

With weights w_i = alpha_i T_i and a pixel's gradient g, dL/dalpha_i = T_i (c_i . g) - (what lies
behind i) / (1 - alpha_i), where what lies behind is one running number: the sum of w_j (c_j . g)
over j > i, minus T_end dL/dalpha_pixel.
"""

# pyright: basic

from __future__ import annotations

from likeness.ops.compilation import AS_WRITTEN, inlined, kernel
from likeness.ops.simd import (
    WIDTH,
    add_lane_sums,
    broadcast,
    load,
    muladd,
    reciprocal,
    smaller,
    where,
)
from likeness.renderers.cpu_kernels.compositing import in_tile
from likeness.renderers.cpu_kernels.exponential import exp2
from likeness.renderers.cpu_kernels.layout import (
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
)
from likeness.renderers.cpu_kernels.memory import AHEAD, prefetch_row


@inlined(AS_WRITTEN)
def _unblend(dy, yy, slope, constant, blended, t, own, behind):
    """Takes one Gaussian off half the pixels of a tile: its weights there and v = alpha dL/dalpha,
    and the pixels' transmittance and gradient-weighted colours behind it. blended: where the list
    went as far as it; own: c . g."""
    exponent = muladd(dy, muladd(yy, dy, slope), constant)
    drawn = blended & (exponent >= broadcast(LOG2_ALPHA_MIN))
    zero, one, most = broadcast(ZERO), broadcast(ONE), broadcast(ALPHA_MAX)
    unclamped = where(drawn, exp2(exponent), zero)
    alpha = smaller(unclamped, most)
    ratio = reciprocal(one - alpha)
    t = t * ratio
    weight = alpha * t
    v = where(unclamped <= most, muladd(weight, own, -alpha * ratio * behind), zero)
    return weight, v, t, muladd(weight, own, behind)


def _make_kernel(with_depth: bool, absolute: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(AS_WRITTEN)
    def composite_rows_backward(thread, threads, splats, lists, ends, scratch, upstream, gradients):
        """Sums the gradients of the tile rows of one thread into its own ``gradients`` [N,
        GRADIENT_COLUMNS].

        lists, ends: ``Lists`` and ``Ends`` as ``composite_rows`` left them. upstream: the gradients
        of ``Images``.
        """
        (starts, counts, entries), (g_rgb, g_alpha, g_depth) = lists, upstream
        transmittances, stops = ends
        height, width = g_alpha.shape
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        gradients[:] = ZERO
        sums = gradients.reshape(-1)
        for lane in range(LANES):
            scratch[S_X + lane] = F(lane % TILE) - HALF * F(TILE - 1)
            scratch[S_Y + lane] = F(lane // TILE) - HALF * F(TILE - 1)
        y, y_2, zero, ln2 = (
            load(scratch, S_Y),
            load(scratch, S_Y + WIDTH),
            broadcast(ZERO),
            broadcast(LN2),
        )
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
                for row in range(top, min(top + TILE, height)):
                    for column in range(left, min(left + TILE, width)):
                        lane = (row - top) * TILE + column - left
                        scratch[S_RED + lane] = g_rgb[row, column, 0]
                        scratch[S_GREEN + lane] = g_rgb[row, column, 1]
                        scratch[S_BLUE + lane] = g_rgb[row, column, 2]
                        scratch[S_BEHIND + lane] = -scratch[S_T + lane] * g_alpha[row, column]
                        if with_depth:
                            scratch[S_DEPTH + lane] = g_depth[row, column]

                start = starts[tile_y, tile_x]
                # The tile's two halves; what changes from Gaussian to Gaussian stays in registers.
                t, t_2 = load(scratch, S_T), load(scratch, S_T + WIDTH)
                behind, behind_2 = load(scratch, S_BEHIND), load(scratch, S_BEHIND + WIDTH)
                for position in range(counts[tile_y, tile_x] - 1, -1, -1):
                    g = entries[start + position]
                    ahead = entries[start + max(position - AHEAD, 0)]
                    prefetch_row(splats, ahead)
                    prefetch_row(gradients, ahead)
                    my, dx, constant, slope = in_tile(scratch, splats, g, center_x, center_y)
                    yy, xy, place = (
                        broadcast(splats[g, YY]),
                        broadcast(splats[g, XY]),
                        broadcast(F(position)),
                    )
                    red, green = broadcast(splats[g, RED]), broadcast(splats[g, GREEN])
                    blue, z = broadcast(splats[g, BLUE]), broadcast(splats[g, DEPTH])
                    g_red, g_red_2 = load(scratch, S_RED), load(scratch, S_RED + WIDTH)
                    g_green, g_green_2 = load(scratch, S_GREEN), load(scratch, S_GREEN + WIDTH)
                    g_blue, g_blue_2 = load(scratch, S_BLUE), load(scratch, S_BLUE + WIDTH)
                    own = muladd(red, g_red, muladd(green, g_green, blue * g_blue))
                    own_2 = muladd(red, g_red_2, muladd(green, g_green_2, blue * g_blue_2))
                    if with_depth:
                        far, far_2 = load(scratch, S_DEPTH), load(scratch, S_DEPTH + WIDTH)
                        own, own_2 = muladd(z, far, own), muladd(z, far_2, own_2)
                    dy, dy_2 = my - y, my - y_2
                    blended, blended_2 = (
                        place < load(scratch, S_STOP),
                        place < load(scratch, S_STOP + WIDTH),
                    )
                    weight, v, t, behind = _unblend(
                        dy, yy, slope, constant, blended, t, own, behind
                    )
                    weight_2, v_2, t_2, behind_2 = _unblend(
                        dy_2, yy, slope, constant, blended_2, t_2, own_2, behind_2
                    )
                    # Moments of v over dy; dx is the same in all rows and comes in afterwards.
                    sum_1, vy, vy_2 = v + v_2, v * dy, v_2 * dy_2
                    sum_x, sum_y, sum_yy = sum_1 * dx, vy + vy_2, muladd(vy_2, dy_2, vy * dy)
                    sum_depth, abs_x, abs_y = zero, zero, zero
                    if with_depth:
                        sum_depth = muladd(weight_2, far_2, weight * far)
                    if absolute:
                        slope_x, twice_yy = broadcast(TWO * splats[g, XX]) * dx, yy + yy
                        abs_x = abs(v * muladd(xy, dy, slope_x)) + abs(
                            v_2 * muladd(xy, dy_2, slope_x)
                        )
                        abs_y = abs(v * muladd(twice_yy, dy, slope)) + abs(
                            v_2 * muladd(twice_yy, dy_2, slope)
                        )
                    add_lane_sums(  # in the order of the columns G_...
                        sums,
                        g * GRADIENT_COLUMNS,
                        muladd(weight_2, g_red_2, weight * g_red),
                        muladd(weight_2, g_green_2, weight * g_green),
                        muladd(weight_2, g_blue_2, weight * g_blue),
                        sum_depth,
                        sum_1,
                        sum_x,
                        sum_y,
                        sum_x * dx,
                        sum_y * dx,
                        sum_yy,
                        abs_x * ln2,
                        abs_y * ln2,
                        zero,
                        zero,
                        zero,
                        zero,
                    )

    return composite_rows_backward


COMPOSITE_ROWS_BACKWARD = {
    (with_depth, absolute): _make_kernel(with_depth, absolute)
    for with_depth in (False, True)
    for absolute in (False, True)
}
"""Kernels by ``with_depth`` and ``absolute`` (whether the absolute gradients of the screen means
are wanted)."""
