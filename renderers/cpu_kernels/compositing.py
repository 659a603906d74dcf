"""Front-to-back blending of each tile's list: the renderer's inner loop."""

# pyright: basic

from __future__ import annotations

from likeness.ops.compilation import AS_WRITTEN, inlined, kernel
from likeness.ops.simd import (
    WIDTH,
    any_lane,
    broadcast,
    load,
    muladd,
    smaller,
    store,
    where,
    without,
)
from likeness.renderers.cpu_kernels.exponential import exp2
from likeness.renderers.cpu_kernels.layout import (
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
)
from likeness.renderers.cpu_kernels.memory import AHEAD, prefetch_row
from likeness.renderers.cpu_kernels.tiles import ROWS, store_colours, store_rows

assert LANES == 2 * WIDTH, "a tile is two vectors"


@inlined(AS_WRITTEN)
def in_tile(scratch, splats, g, center_x, center_y):
    """One Gaussian in a tile: the mean's y, dx of the pixels of any row, and the exponent there as
    a polynomial in dy.

    log2(alpha) = constant + dy (slope + YY dy), with dx, dy from the pixel to the mean.
    """
    mx, my = broadcast(splats[g, MEAN_X] - center_x), broadcast(splats[g, MEAN_Y] - center_y)
    dx = mx - load(scratch, S_X)
    constant = muladd(broadcast(splats[g, XX]) * dx, dx, broadcast(splats[g, LOG2_OPACITY]))
    return my, dx, constant, broadcast(splats[g, XY]) * dx


@inlined(AS_WRITTEN)
def _blend(dy, yy, slope, constant, live, t):
    """What a Gaussian is to some pixels of a tile: where it reaches, its weight, which pixels it
    leaves unfinished of those that are ``live``, and their transmittance. Where it would finish a
    pixel it is not blended any more."""
    exponent = muladd(dy, muladd(yy, dy, slope), constant)
    reached = exponent >= broadcast(LOG2_ALPHA_MIN)
    weight = where(reached, smaller(exp2(exponent), broadcast(ALPHA_MAX)), broadcast(ZERO)) * t
    after = t - weight
    keeps = live & (after > broadcast(TRANSMITTANCE_MIN))
    return reached, weight, keeps, where(keeps, after, t)


@inlined(AS_WRITTEN)
def _add(keeps, value, weight, total):
    return where(keeps, muladd(value, weight, total), total)


def _make_kernel(with_depth: bool, for_backward: bool):
    """One kernel for each case: the inner loop needs every vector register."""

    @kernel(AS_WRITTEN)
    def composite_rows(thread, threads, splats, lists, scratch, images, ends):
        """Renders the tile rows of one thread from its ``Lists`` to ``Images``; depth is written
        only ``with_depth``. ``for_backward`` the lists are reduced to the Gaussians that contribute
        (``counts`` and ``entries`` change), and ``Ends`` are written."""
        (starts, counts, entries), (rgb, alpha, depth) = lists, images
        transmittances, stops = ends
        height, width = alpha.shape
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        for lane in range(LANES):
            scratch[S_X + lane] = F(lane % TILE) - HALF * F(TILE - 1)
            scratch[S_Y + lane] = F(lane // TILE) - HALF * F(TILE - 1)
        x, y, y_2 = load(scratch, S_X), load(scratch, S_Y), load(scratch, S_Y + WIDTH)
        zero, one, never = broadcast(ZERO), broadcast(ONE), broadcast(NEVER)
        right, bottom = broadcast(F(width)), broadcast(F(height))
        flat_rgb, flat_alpha, flat_depth = rgb.reshape(-1), alpha.reshape(-1), depth.reshape(-1)
        for tile_y in range(thread, tiles_y, threads):
            for tile_x in range(tiles_x):
                center_x, center_y = (F(tile_x) + HALF) * F(TILE), (F(tile_y) + HALF) * F(TILE)
                start, kept = starts[tile_y, tile_x], 0
                end = start + counts[tile_y, tile_x]
                # where the next tile begins
                for k in range(end, min(end + AHEAD, entries.shape[0])):
                    prefetch_row(splats, entries[k])
                # The tile's two halves, in registers until its list is through.
                live = (x + broadcast(center_x) < right) & (y + broadcast(center_y) < bottom)
                live_2 = (x + broadcast(center_x) < right) & (y_2 + broadcast(center_y) < bottom)
                t, t_2, stop, stop_2 = one, one, never, never
                red, red_2, green, green_2, blue, blue_2, far, far_2 = (
                    zero,
                    zero,
                    zero,
                    zero,
                    zero,
                    zero,
                    zero,
                    zero,
                )
                for k in range(start, end):
                    g = entries[k]
                    prefetch_row(splats, entries[min(k + AHEAD, end - 1)])
                    my, _, constant, slope = in_tile(scratch, splats, g, center_x, center_y)
                    yy, place = broadcast(splats[g, YY]), broadcast(F(kept))
                    reached, weight, keeps, t = _blend(my - y, yy, slope, constant, live, t)
                    reached_2, weight_2, keeps_2, t_2 = _blend(
                        my - y_2, yy, slope, constant, live_2, t_2
                    )
                    colour = broadcast(splats[g, RED])
                    red, red_2 = (
                        _add(keeps, colour, weight, red),
                        _add(keeps_2, colour, weight_2, red_2),
                    )
                    colour = broadcast(splats[g, GREEN])
                    green, green_2 = (
                        _add(keeps, colour, weight, green),
                        _add(keeps_2, colour, weight_2, green_2),
                    )
                    colour = broadcast(splats[g, BLUE])
                    blue, blue_2 = (
                        _add(keeps, colour, weight, blue),
                        _add(keeps_2, colour, weight_2, blue_2),
                    )
                    if with_depth:
                        z = broadcast(splats[g, DEPTH])
                        far, far_2 = _add(keeps, z, weight, far), _add(keeps_2, z, weight_2, far_2)
                    if for_backward:
                        stop = where(without(live, keeps), place, stop)
                        stop_2 = where(without(live_2, keeps_2), place, stop_2)
                        entries[start + kept] = g  # what no pixel takes is written over
                        kept += int(any_lane((reached & keeps) | (reached_2 & keeps_2)))
                    live, live_2 = keeps, keeps_2
                    if not any_lane(live | live_2):
                        break
                if for_backward:
                    counts[tile_y, tile_x] = kept
                    final, stopped = transmittances[tile_y, tile_x], stops[tile_y, tile_x]
                    store(final, 0, t)
                    store(final, WIDTH, t_2)
                    store(stopped, 0, stop)
                    store(stopped, WIDTH, stop_2)
                left, top = tile_x * TILE, tile_y * TILE
                if left + TILE <= width and top + TILE <= height:
                    first, half = top * width + left, ROWS * width
                    store_rows(flat_alpha, first, width, one - t)
                    store_rows(flat_alpha, first + half, width, one - t_2)
                    store_colours(flat_rgb, 3 * first, 3 * width, (red, green, blue))
                    store_colours(flat_rgb, 3 * (first + half), 3 * width, (red_2, green_2, blue_2))
                    if with_depth:
                        store_rows(flat_depth, first, width, far)
                        store_rows(flat_depth, first + half, width, far_2)
                    continue
                for at, first_half, second_half in (
                    (S_T, t, t_2),
                    (S_RED, red, red_2),
                    (S_GREEN, green, green_2),
                    (S_BLUE, blue, blue_2),
                    (S_DEPTH, far, far_2),
                ):
                    store(scratch, at, first_half)
                    store(scratch, at + WIDTH, second_half)
                for row in range(top, min(top + TILE, height)):
                    for column in range(left, min(left + TILE, width)):
                        lane = (row - top) * TILE + column - left
                        alpha[row, column] = ONE - scratch[S_T + lane]
                        rgb[row, column, 0] = scratch[S_RED + lane]
                        rgb[row, column, 1] = scratch[S_GREEN + lane]
                        rgb[row, column, 2] = scratch[S_BLUE + lane]
                        if with_depth:
                            depth[row, column] = scratch[S_DEPTH + lane]

    return composite_rows


COMPOSITE_ROWS = {
    (with_depth, for_backward): _make_kernel(with_depth, for_backward)
    for with_depth in (False, True)
    for for_backward in (False, True)
}
"""Kernels by ``with_depth`` and ``for_backward``."""
