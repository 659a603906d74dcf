"""The pixel-wise part of a fit's losses in numba: compositing, L1, squared error and matte, and their gradients.

Two passes over the picture, with SSIM's kernel between them; written as plain PyTorch operations the same are some
twenty. Rows are independent tasks that write their own sums: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

# A NaN must stay one, so that a fit that diverges is noticed.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


@numba.njit(**_OPTIONS)
def _composite_row(rgb, alpha, colour, matte, background, picture, truth):
    """One row of both pictures [W * 3] over the background; ``colour`` is straight, ``rgb`` premultiplied."""
    red, green, blue, one = background[0], background[1], background[2], background[3]
    for i in range(alpha.shape[0]):
        a, m = one - alpha[i], matte[i]
        b = one - m
        picture[3 * i] = rgb[3 * i] + a * red
        picture[3 * i + 1] = rgb[3 * i + 1] + a * green
        picture[3 * i + 2] = rgb[3 * i + 2] + a * blue
        truth[3 * i] = colour[i, 0] * m + b * red
        truth[3 * i + 1] = colour[i, 1] * m + b * green
        truth[3 * i + 2] = colour[i, 2] * m + b * blue


@numba.njit(**_OPTIONS)
def _absolute(a, b):
    total = a.dtype.type(0)
    for i in range(a.shape[0]):
        total += abs(a[i] - b[i])
    return total


@numba.njit(**_OPTIONS)
def _squared(a, b):
    total = a.dtype.type(0)
    for i in range(a.shape[0]):
        total += (a[i] - b[i]) * (a[i] - b[i])
    return total


@numba.njit(parallel=True, **_OPTIONS)
def composite(rgb, alpha, colour, matte, background, picture, truth):
    """Fills ``picture`` and ``truth`` [H, W * 3]; returns sums of |picture - truth|, its square and |alpha - matte|.

    rgb: [H, W * 3] premultiplied. alpha, matte: [H, W]. colour: [H, W, 3] straight. background: [4] a colour and 1, in
    rgb's dtype.
    """
    height = alpha.shape[0]
    sums = np.zeros((3, height))
    for row in numba.prange(height):
        _composite_row(rgb[row], alpha[row], colour[row], matte[row], background, picture[row], truth[row])
        sums[0, row] = _absolute(picture[row], truth[row])
        sums[1, row] = _squared(picture[row], truth[row])
        sums[2, row] = _absolute(alpha[row], matte[row])
    return sums[0].sum(), sums[1].sum(), sums[2].sum()


@numba.njit(**_OPTIONS)
def _add_signs(a, b, weight, out):
    """Adds ``weight`` times the sign of a - b."""
    zero = a.dtype.type(0)
    for i in range(a.shape[0]):
        difference = a[i] - b[i]
        step = weight if difference > zero else -weight
        out[i] += step if difference != zero else zero


@numba.njit(**_OPTIONS)
def _alpha_row(g_rgb, background, g_alpha):
    """The gradient by alpha of a picture [W * 3] over the background."""
    red, green, blue = background[0], background[1], background[2]
    for i in range(g_alpha.shape[0]):
        g_alpha[i] = -(g_rgb[3 * i] * red + g_rgb[3 * i + 1] * green + g_rgb[3 * i + 2] * blue)


@numba.njit(**_OPTIONS)
def _scale(values, factor):
    for i in range(values.shape[0]):
        values[i] *= factor


@numba.njit(parallel=True, **_OPTIONS)
def differentiate(picture, truth, alpha, matte, background, weights, g_rgb, g_alpha):
    """From SSIM's gradient in ``g_rgb`` [H, W * 3] to that of all losses by rgb, in place, and by alpha [H, W].

    weights: [3] of SSIM's gradient, of each pixel's |picture - truth| and |alpha - matte|, in the pictures' dtype.
    """
    for row in numba.prange(alpha.shape[0]):
        _scale(g_rgb[row], weights[0])
        _add_signs(picture[row], truth[row], weights[1], g_rgb[row])
        _alpha_row(g_rgb[row], background, g_alpha[row])
        _add_signs(alpha[row], matte[row], weights[2], g_alpha[row])
