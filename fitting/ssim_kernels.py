"""The fused SSIM of fitting.losses in numba: images as rows [B, H, W * 3], value and gradient of the mean together.

The local statistics are four blurs (mean x, mean y, mean x² + y², mean xy: the formula needs the two variances only as
a sum), the gradient three more, of the derivatives by mean x, by the mean square and by the mean product. A blur goes
down the columns first, straight from the images, into one row of scratch that lies in the L1 cache, then along the
row. Rows are independent tasks, each writing its own sum: the result does not depend on the number of threads.

The innermost loops write one array and read few, all contiguous: with more, LLVM gives up proving that they do not
overlap and leaves the loop scalar (five times slower).
"""

from __future__ import annotations

import numba
import numpy as np

_OPTIONS = {"cache": True, "fastmath": True, "error_model": "numpy", "nogil": True}


@numba.njit(**_OPTIONS)
def _along_row(padded, taps, out):
    """The 11-tap blur of one row of interleaved RGB; ``padded`` has 15 zeros at both ends."""
    t0, t1, t2, t3, t4, t5 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    for i in range(out.shape[0]):
        out[i] = (
            t0 * padded[i + 15]
            + t1 * (padded[i + 12] + padded[i + 18])
            + t2 * (padded[i + 9] + padded[i + 21])
            + t3 * (padded[i + 6] + padded[i + 24])
            + t4 * (padded[i + 3] + padded[i + 27])
            + t5 * (padded[i] + padded[i + 30])
        )


@numba.njit(**_OPTIONS)
def _down_columns(values, row, taps, out):
    """The weighted sum over 11 rows of ``values`` [H, N], into ``out`` between its paddings."""
    height, length = values.shape
    out[:] = 0
    for k in range(-5, 6):
        if 0 <= row + k < height:
            t, a = taps[abs(k)], values[row + k]
            for i in range(length):
                out[i + 15] += t * a[i]


@numba.njit(**_OPTIONS)
def _products_down_columns(x, y, row, taps, squares, products):
    """The same for x² + y² and for xy."""
    height, length = x.shape
    squares[:] = 0
    products[:] = 0
    for k in range(-5, 6):
        if 0 <= row + k < height:
            t, a, b = taps[abs(k)], x[row + k], y[row + k]
            for i in range(length):
                squares[i + 15] += t * (a[i] * a[i] + b[i] * b[i])
            for i in range(length):
                products[i + 15] += t * (a[i] * b[i])


@numba.njit(**_OPTIONS)
def _ssim_in_place(m_x, m_y, m_sq, m_xy, c1, c2, two, scale):
    """From the means of one row: m_y becomes SSIM, the others its derivatives by themselves, all times ``scale``."""
    for i in range(m_x.shape[0]):
        mx, my = m_x[i], m_y[i]
        a1 = two * mx * my + c1
        a2 = two * (m_xy[i] - mx * my) + c2
        b1 = mx * mx + my * my + c1
        b2 = m_sq[i] - mx * mx - my * my + c2
        inverse = scale / (b1 * b2)
        ssim = a1 * a2 * inverse
        m_y[i] = ssim
        m_x[i] = two * (my * (a2 - a1) * inverse - mx * ssim * (b2 - b1) / (b1 * b2))
        m_sq[i] = -ssim / b2
        m_xy[i] = two * a1 * inverse


@numba.njit(**_OPTIONS)
def _forward_row(x, y, row, taps, c1, c2, two, scale, margin, want_gradient, partials):
    """The sum of one row's scaled SSIM; writes the row's derivatives into ``partials`` [3, H, N] if wanted."""
    length = x.shape[1]
    columns = np.empty((4, length + 30), x.dtype)
    means = np.empty((4, length), x.dtype)
    _down_columns(x, row, taps, columns[0])
    _down_columns(y, row, taps, columns[1])
    _products_down_columns(x, y, row, taps, columns[2], columns[3])
    for q in range(4):
        _along_row(columns[q], taps, means[q])
    _ssim_in_place(means[0], means[1], means[2], means[3], c1, c2, two, scale)
    total, inner = 0.0, means[1]
    for i in range(3 * margin, length - 3 * margin):
        total += inner[i]
    if want_gradient:
        for q in range(3):
            source, destination = means[q if q == 0 else q + 1], partials[q, row]
            destination[:] = 0
            for i in range(3 * margin, length - 3 * margin):
                destination[i] = source[i]
    return total


@numba.njit(**_OPTIONS)
def _gradient_row(x, y, row, taps, two, partials, out):
    """One row of the gradient by x: the blurred derivatives by the chain rule of mean x, mean square, mean product."""
    length = x.shape[1]
    columns = np.empty(length + 30, x.dtype)
    blurred = np.empty((3, length), x.dtype)
    for q in range(3):
        _down_columns(partials[q], row, taps, columns)
        _along_row(columns, taps, blurred[q])
    by_mean, by_square, by_product, a, b = blurred[0], blurred[1], blurred[2], x[row], y[row]
    for i in range(length):
        out[i] = by_mean[i] + two * by_square[i] * a[i] + by_product[i] * b[i]


@numba.njit(parallel=True, **_OPTIONS)
def mean_ssim(x, y, taps, constants, margin, want_gradient):
    """Mean SSIM of x and y [B, H, W * 3] and its gradient by x (of size 0 unless wanted).

    taps: [6] half of the window from its centre. constants: [4] C1, C2, 2 and 1 / (number of values), in x's dtype,
    since a literal would turn float32 arithmetic into float64. margin: pixels at each border that do not count.
    """
    batch, height, length = x.shape
    c1, c2, two, scale = constants[0], constants[1], constants[2], constants[3]
    sums = np.zeros((batch, height))
    size = batch if want_gradient else 0
    partials = np.zeros((batch, 3, height if want_gradient else 1, length if want_gradient else 1), x.dtype)
    gradient = np.empty((size, height, length), x.dtype)
    rows = height - 2 * margin
    for task in numba.prange(batch * rows):
        b, row = task // rows, task % rows + margin
        sums[b, row] = _forward_row(
            x[b], y[b], row, taps, c1, c2, two, scale, margin, want_gradient, partials[b]
        )
    if want_gradient:
        for task in numba.prange(batch * height):
            b, row = task // height, task % height
            _gradient_row(x[b], y[b], row, taps, two, partials[b], gradient[b, row])
    return sums.sum(), gradient
