"""The error of images and its gradient, in numba. See
``likeness.preprocess.photometric.image_error``."""

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import kernel

_ZERO, _ONE, _UNIT = np.float32(0), np.float32(1), np.float32(1 / 255)


@kernel()
def compare(first, last, images, rgba, background, weights, scale, sums, gradients):
    """Writes, for the images ``first`` to ``last`` (rgb [B, H, W, 3] and alpha [B, H, W, 1]), the
    weighted sums [B] of absolute differences of colours and of mattes, and ``scale`` times their
    gradients by rgb and alpha. weights: of colours and of mattes."""
    (rgb, alpha), (g_rgb, g_alpha), (colour_weight, matte_weight) = images, gradients, weights
    of_colour, of_matte = np.float32(scale * colour_weight), np.float32(scale * matte_weight)
    for b in range(first, last):
        total = 0.0
        for y in range(rgb.shape[1]):
            row, row_matte = _ZERO, _ZERO
            for x in range(rgb.shape[2]):
                a, matte = alpha[b, y, x, 0], np.float32(rgba[b, y, x, 3]) * _UNIT
                through, uncovered = _ZERO, matte - a
                for c in range(3):
                    truth = np.float32(rgba[b, y, x, c]) * _UNIT * matte
                    difference = rgb[b, y, x, c] - truth + uncovered * background[b, c]
                    sign = of_colour if difference > _ZERO else -of_colour
                    sign = sign if difference != _ZERO else _ZERO
                    row += abs(difference)
                    g_rgb[b, y, x, c] = sign
                    through += sign * background[b, c]
                sign = -of_matte if uncovered > _ZERO else of_matte
                row_matte += abs(uncovered)
                g_alpha[b, y, x, 0] = (sign if uncovered != _ZERO else _ZERO) - through
            total += colour_weight * row + matte_weight * row_matte
        sums[b] = total
