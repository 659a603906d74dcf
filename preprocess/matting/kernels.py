"""The loops over pixels of mattes, compiled by numba (once, then cached on disk): in NumPy they
would cost as much as all the rest of a matte."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from likeness.ops.compilation import kernel


@kernel()
def cell_means(image, mask, colours, shares):
    """Writes the means of ``image`` [H, W, 3] over the pixels of ``mask`` [H, W] in each cell into
    ``colours`` [h, w, 3] (0 where there are none), and their share of the cell into ``shares``
    [h, w]. Pixels that cells share count by their parts."""
    height, width = mask.shape
    rows, columns = shares.shape
    tall, wide = height / rows, width / columns
    for i in range(rows):
        top, bottom = i * tall, (i + 1) * tall
        for j in range(columns):
            left, right = j * wide, (j + 1) * wide
            red = green = blue = total = np.float32(0)
            for y in range(int(top), min(int(math.ceil(bottom)), height)):
                part = min(bottom, y + 1.0) - max(top, float(y))
                for x in range(int(left), min(int(math.ceil(right)), width)):
                    if mask[y, x]:
                        weight = np.float32(part * (min(right, x + 1.0) - max(left, float(x))))
                        red += weight * np.float32(image[y, x, 0])
                        green += weight * np.float32(image[y, x, 1])
                        blue += weight * np.float32(image[y, x, 2])
                        total += weight
            inverse = np.float32(1) / max(total, np.float32(1e-6))
            colours[i, j, 0], colours[i, j, 1] = red * inverse, green * inverse
            colours[i, j, 2], shares[i, j] = blue * inverse, total / np.float32(tall * wide)


class Knowns(NamedTuple):
    """What is known of an image. Beyond ``band``, ``core`` says where the person is."""

    image: np.ndarray  # [H, W, 3]
    mask: np.ndarray  # [H, W] probability of the person
    band: np.ndarray  # [H, W] bool, where alpha is solved for
    core: np.ndarray  # [H, W] bool
    behind: np.ndarray  # [H, W, 3] colour of the background
    sigma: np.ndarray  # [H, W] its standard deviation
    near: np.ndarray  # [H, W, 4] colour and standard deviation of the nearest sure foreground


class OddsLimits(NamedTuple):
    """Largest log odds: of the person and of the background by the mask, and by the colour."""

    inside: np.float32
    outside: np.float32
    colour: np.float32


@kernel()
def unmix_kernel(knowns, limits, mixed, trust, odds):
    """Solves I = alpha F + (1 - alpha) B at the pixels of the band: alpha into ``mixed`` [H, W].

    ``trust`` [H, W]: how much alpha is worth in [0, 1]: little where F and B are alike for their
    noise. A colour far off the line from B to F is another foreground colour. ``odds`` [H, W]: the
    log odds of the person by colour and mask.
    """
    image, mask, band, core, behind, sigma, near = knowns
    inside, outside, limit = limits
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
