"""A fit's losses of a band of rows in numba: compositing, L1, squared error, matte and SSIM, and
their gradients.

One sweep down the image: a row is composited when SSIM takes it in, and gets its gradient when
SSIM's is ready, a few rows later. Written as plain PyTorch operations the same are some sixty
passes over memory.
"""

# pyright: basic

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from likeness.ops import ssim_cpu as sweep
from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, kernel
from likeness.ops.ssim_cpu import RADIUS, STEP


@helper(ANY_NUMBER)
def _composite_row(rgb, alpha, rgba, background, image, truth):
    """One row of both images [W * 3] over the background; ``rgba`` [W * 4] is straight, ``rgb``
    premultiplied."""
    red, green, blue, one = background[0], background[1], background[2], background[3]
    for i in range(alpha.shape[0]):
        a = one - alpha[i]
        image[3 * i] = rgb[3 * i] + a * red
        image[3 * i + 1] = rgb[3 * i + 1] + a * green
        image[3 * i + 2] = rgb[3 * i + 2] + a * blue
    for i in range(alpha.shape[0]):
        m = rgba[4 * i + 3]
        b = one - m
        truth[3 * i] = rgba[4 * i] * m + b * red
        truth[3 * i + 1] = rgba[4 * i + 1] * m + b * green
        truth[3 * i + 2] = rgba[4 * i + 2] * m + b * blue


@helper(ANY_NUMBER)
def _differences(a, b):
    """The sums of |a - b| and its square."""
    total, squares = a.dtype.type(0), a.dtype.type(0)
    for i in range(a.shape[0]):
        difference = abs(a[i] - b[i])
        total += difference
        squares += difference * difference
    return total, squares


@helper(ANY_NUMBER)
def _matte_difference(alpha, rgba):
    total = alpha.dtype.type(0)
    for i in range(alpha.shape[0]):
        total += abs(alpha[i] - rgba[4 * i + 3])
    return total


@helper(ANY_NUMBER)
def _gradient_by_rgb(of_ssim, a, b, weights, out):
    """``weights[0]`` times SSIM's gradient, and ``weights[1]`` times the sign of a - b."""
    zero, weight = a.dtype.type(0), weights[1]
    for i in range(out.shape[0]):
        difference = a[i] - b[i]
        sign = weight if difference > zero else -weight
        out[i] = weights[0] * of_ssim[i] + (sign if difference != zero else zero)


@helper(ANY_NUMBER)
def _gradient_by_alpha(g_rgb, alpha, rgba, background, weight, out):
    """Through the background that shows, and ``weight`` times the sign of the matte's
    difference."""
    red, green, blue, zero = background[0], background[1], background[2], alpha.dtype.type(0)
    for i in range(out.shape[0]):
        difference = alpha[i] - rgba[4 * i + 3]
        sign = weight if difference > zero else -weight
        through = g_rgb[3 * i] * red + g_rgb[3 * i + 1] * green + g_rgb[3 * i + 2] * blue
        out[i] = (sign if difference != zero else zero) - through


class Composited(NamedTuple):
    """An image, and the frame and the background that it is compared with."""

    rgb: np.ndarray  # [H, W * 3] premultiplied
    alpha: np.ndarray  # [H, W]
    rgba: np.ndarray  # [H, W * 4] the frame, straight
    background: np.ndarray  # [4] a colour and 1


@kernel(AS_WRITTEN)
def image_band(first, last, images, window, weights, want_gradient, sums, gradients):
    """Rows from ``first`` to ``last`` of an image's losses.

    images: ``Composited``. window: taps and constants as for ``ssim_cpu.ssim_band``. weights: [3]
    of SSIM's gradient, of each value's |image - truth| and of each pixel's |alpha - matte|. All
    of rgb's dtype. Writes sums [4, H] of |image - truth|, its square, |alpha - matte| and the
    rows' part of SSIM, and, if wanted, the gradients by rgb [H, W * 3] and by alpha [H, W]. What a
    row gets does not depend on the band that it is in.
    """
    (rgb, alpha, rgba, background), (taps, constants) = images, window
    g_rgb, g_alpha = gradients
    height, length = rgb.shape
    kept = sweep.scratch(length, taps)
    reach = RADIUS if want_gradient else 0
    wanted = max(first - reach, 0), min(last + reach, height)
    for row in range(sweep.first_step(first - reach), last + reach + RADIUS, STEP):
        for r in range(row, row + STEP):
            if r < 0 or r >= height:
                sweep.skip_row(kept, r, length)
                continue
            a, b = sweep.row_of(kept[0], r, length), sweep.row_of(kept[1], r, length)
            _composite_row(rgb[r], alpha[r], rgba[r], background, a, b)
            sweep.note_span(kept, r, length)
            if first <= r < last:
                sums[0, r], sums[1, r] = _differences(a, b)
                sums[2, r] = _matte_difference(alpha[r], rgba[r])
        sweep.derivatives(
            kept, row - RADIUS, wanted, (first, last), length, taps, constants, 0, sums[3]
        )
        if want_gradient and row - 2 * RADIUS + STEP > first:
            start, stop = sweep.blur_derivatives(kept, row - 2 * RADIUS, length)
            for r in range(max(row - 2 * RADIUS, first), min(row - 2 * RADIUS + STEP, last)):
                of_ssim = sweep.gradient_row(
                    kept, r - row + 2 * RADIUS, r, start, stop, length, taps, constants[2]
                )
                a, b = sweep.row_of(kept[0], r, length), sweep.row_of(kept[1], r, length)
                _gradient_by_rgb(of_ssim, a, b, weights, g_rgb[r])
                _gradient_by_alpha(g_rgb[r], alpha[r], rgba[r], background, weights[2], g_alpha[r])
