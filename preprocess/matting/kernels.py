"""The loops over pixels of the matting model ``selfie``, compiled by numba (once, then cached on
disk): in NumPy they would cost as much as all the rest of a matte."""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import kernel


@kernel()
def unmix_kernel(
    image, mask, band, core, behind, sigma, near, inside, outside, limit, mixed, trust, odds
):
    """Solves I = alpha F + (1 - alpha) B at the pixels of ``band`` [H, W]: alpha into ``mixed``,
    both in [0, 1].

    behind [H, W, 3], sigma [H, W]: colour and standard deviation of the background; near
    [H, W, 4]: of the nearest sure foreground. ``trust``: how much alpha is worth: little where F
    and B are alike for their noise. A colour far off the line from B to F is another foreground
    colour. ``odds``: the log odds of the person by the colour (at most ``limit``) and by ``mask``,
    a probability [H, W], whose log odds count from -``outside`` to ``inside``. Beyond the band
    ``core`` [H, W] says where the person is.
    """
    height, width = mask.shape
    one, least = np.float32(1), np.float32(1e-4)
    for row in range(height):
        for column in range(width):
            if not band[row, column]:
                mixed[row, column] = np.float32(core[row, column])
                trust[row, column] = one
                odds[row, column] = limit if core[row, column] else -limit
                continue
            b, f, noise = behind[row, column], near[row, column], sigma[row, column]
            square = along = off = np.float32(0)
            for channel in range(3):
                i = np.float32(image[row, column, channel]) - b[channel]
                step = f[channel] - b[channel]
                square += step * step
                along += i * step
                off += i * i
            distance = math.sqrt(square) + np.float32(1e-3)
            along /= distance
            off = math.sqrt(max(off - along * along, np.float32(0)))
            floor = np.float32(2) * noise
            alpha = (along - floor) / max(distance - floor, floor)
            alpha = min(max(alpha, np.float32(0)), one)
            square = distance * distance
            worth = square / (square + np.float32(36) * noise * noise + f[3] * f[3])
            other = (off - np.float32(3) * noise) / (np.float32(5) * noise)
            other = min(max(other, np.float32(0)), one)
            alpha += other * (one - alpha)
            worth = max(worth, other)
            likely = min(max(mask[row, column], least), one - least)
            prior = min(max(np.float32(math.log(likely / (one - likely))), -outside), inside)
            mixed[row, column], trust[row, column] = alpha, worth
            odds[row, column] = prior + np.float32(2) * limit * worth * (alpha - np.float32(0.5))


@kernel()
def share_kernel(change, falloff, values, other_values, total, other_total, weight, other_weight):
    """Adds the values [H, W] of two frames to each other's total, by how little the image changed
    between them.

    change: [H, W] uint8; falloff: [256] the weight of each change.
    """
    for row in range(change.shape[0]):
        for column in range(change.shape[1]):
            share = falloff[change[row, column]]
            total[row, column] += share * other_values[row, column]
            other_total[row, column] += share * values[row, column]
            weight[row, column] += share
            other_weight[row, column] += share
