"""The gradient of blending, from the last Gaussian of each tile's list to the first.

With weights w_i = alpha_i T_i and a pixel's gradient g,
dL/dalpha_i = T_i (c_i . g) - (what lies behind i) / (1 - alpha_i), where what lies behind is one running number:
the sum of w_j (c_j . g) over j > i, minus T_end dL/dalpha_pixel.
"""

from __future__ import annotations

from renderers.cpu_kernels.compiling import FINITE, inlined, kernel
from renderers.cpu_kernels.compositing import polynomial
from renderers.cpu_kernels.exponential import exp2
from renderers.cpu_kernels.layout import (
    ALPHA_MAX,
    BLUE,
    DEPTH,
    G_1,
    G_ABS_X,
    G_ABS_Y,
    G_BLUE,
    G_DEPTH,
    G_GREEN,
    G_RED,
    G_X,
    G_XX,
    G_XY,
    G_Y,
    G_YY,
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


@inlined()
def _unblend(scratch, splat, gradient, center_x, center_y, position, depth, absolute):
    """Takes one Gaussian off the 64 pixels of a tile and adds to its row of gradients."""
    mx, my, constant, linear_x, linear_y = polynomial(splat, center_x, center_y)
    xx, xy, yy = splat[XX], splat[XY], splat[YY]
    red, green, blue, z = splat[RED], splat[GREEN], splat[BLUE], splat[DEPTH]
    sum_red, sum_green, sum_blue, sum_depth = ZERO, ZERO, ZERO, ZERO
    # Moments of v = alpha dL/dalpha over the pixel's position in the tile.
    sum_1, sum_x, sum_y, sum_xx, sum_xy, sum_yy, abs_x, abs_y = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for lane in range(LANES):
        x, y = scratch[S_X + lane], scratch[S_Y + lane]
        exponent = constant + x * (linear_x + xx * x + xy * y) + y * (linear_y + yy * y)
        unclamped = exp2(exponent)
        drawn = (exponent >= LOG2_ALPHA_MIN) and (position < scratch[S_STOP + lane])
        alpha = min(unclamped, ALPHA_MAX) if drawn else ZERO
        ratio = ONE / (ONE - alpha)
        t = scratch[S_T + lane] * ratio
        weight = alpha * t
        scratch[S_T + lane] = t
        g_red, g_green, g_blue = scratch[S_RED + lane], scratch[S_GREEN + lane], scratch[S_BLUE + lane]
        own = red * g_red + green * g_green + blue * g_blue
        if depth:
            own += z * scratch[S_DEPTH + lane]
            sum_depth += weight * scratch[S_DEPTH + lane]
        behind = scratch[S_BEHIND + lane]
        scratch[S_BEHIND + lane] = behind + weight * own
        sum_red += weight * g_red
        sum_green += weight * g_green
        sum_blue += weight * g_blue
        v = (alpha if unclamped <= ALPHA_MAX else ZERO) * (t * own - ratio * behind)
        vx, vy = v * x, v * y
        sum_1 += v
        sum_x += vx
        sum_y += vy
        sum_xx += vx * x
        sum_xy += vx * y
        sum_yy += vy * y
        if absolute:
            abs_x += abs(v * (linear_x + TWO * xx * x + xy * y))
            abs_y += abs(v * (linear_y + TWO * yy * y + xy * x))
    gradient[G_RED] += sum_red
    gradient[G_GREEN] += sum_green
    gradient[G_BLUE] += sum_blue
    if depth:
        gradient[G_DEPTH] += sum_depth
    # From positions (x, y) in the tile to (dx, dy) = (mx - x, my - y).
    sum_dx, sum_dy = mx * sum_1 - sum_x, my * sum_1 - sum_y
    gradient[G_1] += sum_1
    gradient[G_X] += sum_dx
    gradient[G_Y] += sum_dy
    gradient[G_XX] += mx * (sum_dx - sum_x) + sum_xx
    gradient[G_XY] += mx * sum_dy - my * sum_x + sum_xy
    gradient[G_YY] += my * (sum_dy - sum_y) + sum_yy
    if absolute:
        gradient[G_ABS_X] += abs_x * LN2
        gradient[G_ABS_Y] += abs_y * LN2


def _make_kernel(with_depth: bool, absolute: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(FINITE)
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
                    splat, gradient, place = splats[g], gradients[g], F(position)
                    _unblend(scratch, splat, gradient, center_x, center_y, place, with_depth, absolute)

    return composite_rows_backward


COMPOSITE_ROWS_BACKWARD = {
    (with_depth, absolute): _make_kernel(with_depth, absolute)
    for with_depth in (False, True)
    for absolute in (False, True)
}
"""Kernels by ``with_depth`` and ``absolute`` (whether the absolute gradients of the screen means are wanted)."""
