"""SSIM's value and gradient in one sweep down two images of interleaved RGB, rows by rows, in
explicit vectors.

The local statistics are four blurs (mean x, mean y, mean x² + y², mean xy: the formula needs the
two variances only as a sum), the gradient three more, of the derivatives by mean x, by the mean
square and by the mean product. A step of the sweep takes four rows in, five rows behind it makes
four rows of derivatives, and five rows behind those four rows of the gradient. The rows that are
still needed lie in rings, so that all of it stays in the cache of a core: only the images are read
from memory and only the gradient is written. A blur goes down the columns first, several rows at
once so that each row is loaded once for them, then along the row.

Where both images are equal all over a window, its SSIM is 1 with derivative 0, which needs no
arithmetic: each row carries the span in which they differ.
"""

# pyright: basic

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, inlined, kernel
from likeness.ops.simd import WIDTH, broadcast, differ, lanes, load, muladd, store

STEP = 4
"""Rows that a step of the sweep takes in."""
RADIUS = 5
_ALONG = 3 * RADIUS  # between a value and the last of its window along the row
_RING = 16  # rows that a ring holds: a step and the windows of its rows
LEAD = WIDTH
"""Zeros before and after a row in a ring, of which the windows see the first ``_ALONG``."""


@helper(AS_WRITTEN)
def padded_length(length):
    """Numbers that a row of ``length`` takes up in a ring: whole vectors, between zeros."""
    return (length + WIDTH - 1) // WIDTH * WIDTH + 2 * LEAD


@helper(AS_WRITTEN)
def scratch(length, taps):
    """What a sweep keeps: the rings of x, y and the derivatives, blurred columns, a row, spans, the
    table of taps."""
    stride = padded_length(length)
    sizes = _RING * stride, _RING * stride, 3 * _RING * stride, 3 * STEP * stride, stride
    memory = np.zeros(sizes[0] + sizes[1] + sizes[2] + sizes[3] + sizes[4] + 16, taps.dtype)
    start = (64 - memory.ctypes.data % 64) % 64 // memory.itemsize
    x, start = memory[start : start + sizes[0]], start + sizes[0]
    y, start = memory[start : start + sizes[1]], start + sizes[1]
    partials, start = memory[start : start + sizes[2]], start + sizes[2]
    columns, start = memory[start : start + sizes[3]], start + sizes[3]
    row = memory[start : start + sizes[4]]
    spans = np.zeros((2, _RING, 2), np.int64)
    # Zeros around the taps, so that a row may be offered to outputs whose window it is not in.
    table = np.zeros(2 * RADIUS + 1 + 2 * (STEP - 1), taps.dtype)
    for k in range(-RADIUS, RADIUS + 1):
        table[STEP - 1 + RADIUS + k] = taps[abs(k)]
    return x, y, partials, columns, row, spans, table


@helper(AS_WRITTEN)
def row_of(ring, row, length):
    """Where an image's row lies in its ring [length]."""
    base = row % _RING * padded_length(length) + LEAD
    return ring[base : base + length]


@helper(AS_WRITTEN)
def copy(values, out):
    """Writes values [M] to ``out`` [M]; an assignment of slices would compile NumPy's complaint
    about their shapes."""
    for i in range(out.shape[0]):
        out[i] = values[i]


@helper(AS_WRITTEN)
def first_step(first):
    """The row with which a sweep begins whose first SSIM is of row ``first``: the same rows go
    together in any band."""
    return (first - RADIUS - STEP) // STEP * STEP


@helper(AS_WRITTEN)
def note_span(kept, row, length):
    """Notes between which whole vectors of a ring's row both images differ (what is not a number
    does)."""
    x, y, spans = kept[0], kept[1], kept[5]
    base, step = row % _RING * padded_length(length), lanes(x)
    first, last = base + LEAD, base + padded_length(length) - LEAD
    while first < last and not differ(load(x, first), load(y, first)):
        first += step
    while first < last and not differ(load(x, last - step), load(y, last - step)):
        last -= step
    first, last = (first - base) // WIDTH * WIDTH, -(-(last - base) // WIDTH) * WIDTH
    spans[0, row % _RING, 0], spans[0, row % _RING, 1] = first, last


@helper(AS_WRITTEN)
def skip_row(kept, row, length):
    """A row outside the images: zeros in both."""
    row_of(kept[0], row, length)[:] = 0
    row_of(kept[1], row, length)[:] = 0
    kept[5][0, row % _RING] = 0


@helper(AS_WRITTEN)
def _reach(spans, first, last, length):
    """The vectors whose windows, over the rows from first to last, touch any row's span: (0, 0) if
    none."""
    start, stop = padded_length(length), 0
    for row in range(first, last):
        if spans[row % _RING, 0] < spans[row % _RING, 1]:
            start, stop = min(start, spans[row % _RING, 0]), max(stop, spans[row % _RING, 1])
    if start >= stop:
        return 0, 0
    start, stop = start - _ALONG - LEAD, stop + _ALONG - LEAD
    return max(start // WIDTH, 0) * WIDTH + LEAD, min(
        -(-stop // WIDTH) * WIDTH + LEAD, padded_length(length) - LEAD
    )


@helper(AS_WRITTEN)
def _two_down_columns(x, y, rows, table, start, stop, stride, out):
    """The sums over 11 rows of x, y, x² + y² and xy for two rows, one after the other; rows: where
    the 12 begin."""
    for i in range(start, stop, lanes(x)):
        x0 = y0 = s0 = p0 = x1 = y1 = s1 = p1 = broadcast(table[0])
        for k in range(2 * RADIUS + 2):
            a, b = load(x, rows[k] + i), load(y, rows[k] + i)
            s, p = muladd(a, a, b * b), a * b
            t, u = broadcast(table[STEP - 1 + k]), broadcast(table[STEP - 2 + k])
            x0, y0, s0, p0 = muladd(t, a, x0), muladd(t, b, y0), muladd(t, s, s0), muladd(t, p, p0)
            x1, y1, s1, p1 = muladd(u, a, x1), muladd(u, b, y1), muladd(u, s, s1), muladd(u, p, p1)
        store(out, i, x0)
        store(out, stride + i, y0)
        store(out, 2 * stride + i, s0)
        store(out, 3 * stride + i, p0)
        store(out, 4 * stride + i, x1)
        store(out, 5 * stride + i, y1)
        store(out, 6 * stride + i, s1)
        store(out, 7 * stride + i, p1)


@helper(AS_WRITTEN)
def _four_down_columns(values, rows, table, start, stop, stride, out):
    """The sums over 11 rows for four rows, 3 strides apart in ``out``; rows: where the 14 begin."""
    for i in range(start, stop, lanes(values)):
        a0 = a1 = a2 = a3 = broadcast(table[0])
        for k in range(2 * RADIUS + 4):
            a = load(values, rows[k] + i)
            a0 = muladd(broadcast(table[3 + k]), a, a0)
            a1 = muladd(broadcast(table[2 + k]), a, a1)
            a2 = muladd(broadcast(table[1 + k]), a, a2)
            a3 = muladd(broadcast(table[k]), a, a3)
        store(out, i, a0)
        store(out, 3 * stride + i, a1)
        store(out, 6 * stride + i, a2)
        store(out, 9 * stride + i, a3)


@inlined(AS_WRITTEN)
def _along_row(values, i, t0, t1, t2, t3, t4, t5):
    """The 11-tap blur of interleaved RGB at one vector."""
    near = muladd(t1, load(values, i - 3) + load(values, i + 3), t0 * load(values, i))
    near = muladd(t2, load(values, i - 6) + load(values, i + 6), near)
    far = t3 * (load(values, i - 9) + load(values, i + 9))
    far = muladd(t4, load(values, i - 12) + load(values, i + 12), far)
    return muladd(t5, load(values, i - 15) + load(values, i + 15), near + far)


@helper(AS_WRITTEN)
def _ssim_row(columns, at, stride, taps, constants, start, stop, partials, to, row):
    """SSIM of one row, and its derivatives by mean x, mean square and mean product, all times
    ``constants[3]``."""
    t0, t1, t2 = broadcast(taps[0]), broadcast(taps[1]), broadcast(taps[2])
    t3, t4, t5 = broadcast(taps[3]), broadcast(taps[4]), broadcast(taps[5])
    c1, c2, two, scale = (
        broadcast(constants[0]),
        broadcast(constants[1]),
        broadcast(constants[2]),
        broadcast(constants[3]),
    )
    one = broadcast(constants.dtype.type(1))
    for i in range(start, stop, lanes(columns)):
        mx = _along_row(columns, at + i, t0, t1, t2, t3, t4, t5)
        my = _along_row(columns, at + stride + i, t0, t1, t2, t3, t4, t5)
        square = _along_row(columns, at + 2 * stride + i, t0, t1, t2, t3, t4, t5)
        product = _along_row(columns, at + 3 * stride + i, t0, t1, t2, t3, t4, t5)
        xy, xx_yy = mx * my, muladd(mx, mx, my * my)
        a1, a2 = muladd(two, xy, c1), muladd(two, product - xy, c2)
        b1, b2 = xx_yy + c1, square - xx_yy + c2
        inverse = one / (b1 * b2)
        ssim, by_product = scale * (a1 * a2 * inverse), scale * (a1 * inverse)
        store(row, i, ssim)
        store(partials, to + i, two * (my * (a2 - a1) * scale - mx * ssim * (b2 - b1)) * inverse)
        store(partials, to + _RING * stride + i, -(ssim * b1 * inverse))
        store(partials, to + 2 * _RING * stride + i, two * by_product)


@helper(ANY_NUMBER)
def _sum(values):
    total = 0.0
    for i in range(values.shape[0]):
        total += values[i]
    return total


@helper(AS_WRITTEN)
def _clear_partials(partials, row, start, stop, stride):
    """Zeros everywhere but from start to stop: what lies beyond the image or its margin has no
    SSIM."""
    for q in range(3):
        base = (q * _RING + row % _RING) * stride
        partials[base : base + start] = 0
        partials[base + stop : base + stride] = 0


@helper(AS_WRITTEN)
def derivatives(kept, first, wanted, counted, length, taps, constants, margin, sums):
    """SSIM's derivatives for STEP rows from ``first`` on, of those in ``wanted`` (start, stop).

    Where these are ``counted`` (start, stop), their sum of SSIM goes to ``sums``.
    """
    x, y, partials, columns, row_of_ssim, spans, table = kept
    stride, rows = padded_length(length), np.empty(2 * RADIUS + 2, np.int64)
    start, stop = _reach(spans[0], first - RADIUS, first + STEP + RADIUS, length)
    left, right = LEAD + 3 * margin, LEAD + length - 3 * margin
    for pair in range(first, first + STEP, 2):
        if start < stop:
            for k in range(2 * RADIUS + 2):
                rows[k] = (pair - RADIUS + k) % _RING * stride
            _two_down_columns(x, y, rows, table, start - LEAD, stop + LEAD, stride, columns)
        for row in range(pair, pair + 2):
            spans[1, row % _RING] = 0
            inside = wanted[0] <= row < wanted[1]
            if not inside or start >= stop:
                _clear_partials(partials, row, stride, stride, stride)
                if inside and counted[0] <= row < counted[1]:
                    sums[row] = (right - left) * constants[3]
                continue
            at = (row - pair) * 4 * stride
            _ssim_row(
                columns,
                at,
                stride,
                taps,
                constants,
                start,
                stop,
                partials,
                row % _RING * stride,
                row_of_ssim,
            )
            a, b = max(start, left), max(min(stop, right), max(start, left))
            _clear_partials(partials, row, a, b, stride)
            if counted[0] <= row < counted[1]:
                sums[row] = _sum(row_of_ssim[a:b]) + (right - left - (b - a)) * constants[3]
            spans[1, row % _RING, 0], spans[1, row % _RING, 1] = start, stop


@helper(AS_WRITTEN)
def blur_derivatives(kept, first, length):
    """The derivatives of STEP rows from ``first`` on, blurred down the columns; returns from and to
    where."""
    partials, columns, spans, table = kept[2], kept[3], kept[5], kept[6]
    stride, rows = padded_length(length), np.empty(2 * RADIUS + STEP, np.int64)
    start, stop = _reach(spans[1], first - RADIUS, first + STEP + RADIUS, length)
    if start < stop:
        for q in range(3):
            for k in range(2 * RADIUS + STEP):
                rows[k] = (q * _RING + (first - RADIUS + k) % _RING) * stride
            _four_down_columns(
                partials, rows, table, start - LEAD, stop + LEAD, stride, columns[q * stride :]
            )
    return start, stop


@helper(AS_WRITTEN)
def gradient_row(kept, index, row, start, stop, length, taps, two):
    """The gradient by x of the ``index``-th of those rows [length], in scratch: the chain rule of
    the three means."""
    x, y, columns, out, stride = kept[0], kept[1], kept[3], kept[4], padded_length(length)
    t0, t1, t2 = broadcast(taps[0]), broadcast(taps[1]), broadcast(taps[2])
    t3, t4, t5 = broadcast(taps[3]), broadcast(taps[4]), broadcast(taps[5])
    at, base, twice = 3 * index * stride, row % _RING * stride, broadcast(two)
    out[LEAD:start] = 0
    for i in range(start, stop, lanes(columns)):
        by_mean = _along_row(columns, at + i, t0, t1, t2, t3, t4, t5)
        by_square = _along_row(columns, at + stride + i, t0, t1, t2, t3, t4, t5)
        by_product = _along_row(columns, at + 2 * stride + i, t0, t1, t2, t3, t4, t5)
        a, b = load(x, base + i), load(y, base + i)
        store(out, i, muladd(by_product, b, muladd(twice * by_square, a, by_mean)))
    out[max(stop, LEAD) :] = 0
    return out[LEAD : LEAD + length]


@kernel(AS_WRITTEN)
def ssim_band(x, y, first, last, taps, constants, margin, sums, gradient):
    """Rows from ``first`` to ``last`` of the mean SSIM of x and y [H, W * 3]: each row's part of it
    into ``sums`` [H], and the gradient by x into ``gradient`` [H, W * 3]; without one, where this
    is None, none is even compiled.

    taps: [6] half of the window from its centre. constants: [4] C1, C2, 2 and 1 / (number of
    values), in x's dtype, since a literal would turn float32 arithmetic into float64. margin:
    pixels at each border that do not count. What a row gets does not depend on the band that it is
    in.
    """
    height, length = x.shape
    kept = scratch(length, taps)
    reach = 0 if gradient is None else RADIUS
    wanted = max(first - reach, margin), min(last + reach, height - margin)
    for row in range(first_step(first - reach), last + reach + RADIUS, STEP):
        for r in range(row, row + STEP):
            if r < 0 or r >= height:
                skip_row(kept, r, length)
                continue
            copy(x[r], row_of(kept[0], r, length))
            copy(y[r], row_of(kept[1], r, length))
            note_span(kept, r, length)
        derivatives(
            kept, row - RADIUS, wanted, (first, last), length, taps, constants, margin, sums
        )
        if gradient is not None and row - 2 * RADIUS + STEP > first:
            start, stop = blur_derivatives(kept, row - 2 * RADIUS, length)
            for r in range(max(row - 2 * RADIUS, first), min(row - 2 * RADIUS + STEP, last)):
                own = gradient_row(
                    kept, r - row + 2 * RADIUS, r, start, stop, length, taps, constants[2]
                )
                copy(own, gradient[r])
