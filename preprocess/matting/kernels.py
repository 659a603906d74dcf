"""The loops over pixels of the matter ``selfie``, compiled by numba (once, then cached on disk)."""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, inlined, kernel
from likeness.preprocess.matting.grid_kernels import cell, sample


@inlined(ANY_NUMBER)
def _background(row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise):
    """Colour and standard deviation of the background at a pixel."""
    if seen[row, column]:
        # 1.25 turns a mean absolute deviation into a standard one.
        return (
            mean[row, column, 0] + sample(light, y, fy, x, fx, 0),
            mean[row, column, 1] + sample(light, y, fy, x, fx, 1),
            mean[row, column, 2] + sample(light, y, fy, x, fx, 2),
            max(np.float32(1.25) * deviation[row, column], noise),
        )
    return (
        sample(guess, y, fy, x, fx, 0),
        sample(guess, y, fy, x, fx, 1),
        sample(guess, y, fy, x, fx, 2),
        sample(guess, y, fy, x, fx, 3),
    )


@kernel()
def background_kernel(mean, deviation, seen, light, guess, noise, out):
    """Colour and deviation of the background at every pixel into ``out`` [H, W, 4]."""
    height, width = seen.shape
    for row in range(height):
        y, fy = cell(row, height, guess.shape[0])
        for column in range(width):
            x, fx = cell(column, width, guess.shape[1])
            values = _background(
                row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise
            )
            for channel in range(4):
                out[row, column, channel] = values[channel]


@kernel()
def learn_kernel(image, weights, light, mean, deviation, seen, rate):
    """Joins the pixels of ``image`` whose weight is over a half to the running mean and mean
    absolute deviation.

    The plate keeps the light of when it was first seen: ``light`` is taken off before.
    """
    height, width = seen.shape
    rate = np.float32(rate)
    for row in range(height):
        y, fy = cell(row, height, light.shape[0])
        for column in range(width):
            if weights[row, column] <= 0.5:
                continue
            x, fx = cell(column, width, light.shape[1])
            residual = np.float32(0)
            first = not seen[row, column]
            for channel in range(3):
                value = np.float32(image[row, column, channel]) - sample(
                    light, y, fy, x, fx, channel
                )
                if first:
                    mean[row, column, channel] = value
                else:
                    change = value - mean[row, column, channel]
                    residual += abs(change)
                    mean[row, column, channel] += rate * change
            if first:
                seen[row, column] = True
            else:
                deviation[row, column] += rate * (residual / np.float32(3) - deviation[row, column])


@kernel()
def unmix_kernel(
    image,
    mask,
    band,
    core,
    mean,
    deviation,
    seen,
    light,
    guess,
    noise,
    near,
    inside,
    outside,
    limit,
    mixed,
    trust,
    odds,
):
    """Solves I = alpha F + (1 - alpha) B at the pixels of ``band`` [H, W]: alpha into ``mixed``,
    both in [0, 1].

    F: colour and spread of the nearest sure foreground, ``near`` [h, w, 4]. ``trust``: how much
    alpha is worth: little where F and B are alike for their noise. A colour far off the line from B
    to F is another foreground colour. ``odds``: the log odds of the person by the colour (at most
    ``limit``) and by ``mask``, a probability [H, W], whose log odds count from -``outside`` to
    ``inside``. Beyond the band ``core`` [H, W] says where the person is.
    """
    height, width = seen.shape
    one, least = np.float32(1), np.float32(1e-4)
    for row in range(height):
        y, fy = cell(row, height, guess.shape[0])
        for column in range(width):
            if not band[row, column]:
                mixed[row, column] = np.float32(core[row, column])
                trust[row, column] = one
                odds[row, column] = limit if core[row, column] else -limit
                continue
            x, fx = cell(column, width, guess.shape[1])
            b0, b1, b2, sigma = _background(
                row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise
            )
            i0 = np.float32(image[row, column, 0]) - b0
            i1 = np.float32(image[row, column, 1]) - b1
            i2 = np.float32(image[row, column, 2]) - b2
            f0 = sample(near, y, fy, x, fx, 0) - b0
            f1 = sample(near, y, fy, x, fx, 1) - b1
            f2 = sample(near, y, fy, x, fx, 2) - b2
            spread = sample(near, y, fy, x, fx, 3)
            distance = math.sqrt(f0 * f0 + f1 * f1 + f2 * f2) + np.float32(1e-3)
            along = (i0 * f0 + i1 * f1 + i2 * f2) / distance
            off = math.sqrt(max(i0 * i0 + i1 * i1 + i2 * i2 - along * along, np.float32(0)))
            floor = np.float32(2) * sigma
            alpha = min(
                max((along - floor) / max(distance - floor, floor), np.float32(0)), np.float32(1)
            )
            square = distance * distance
            worth = square / (square + np.float32(36) * sigma * sigma + spread * spread)
            other = (off - np.float32(3) * sigma) / (np.float32(5) * sigma)
            other = min(max(other, np.float32(0)), np.float32(1))
            alpha += other * (one - alpha)
            worth = max(worth, other)
            likely = min(max(mask[row, column], least), one - least)
            prior = min(max(np.float32(math.log(likely / (one - likely))), -outside), inside)
            mixed[row, column], trust[row, column] = alpha, worth
            odds[row, column] = prior + np.float32(2) * limit * worth * (alpha - np.float32(0.5))


@kernel()
def clearness_kernel(near, guess, calm, out):
    """How far apart the colours of foreground and background, [h, w, 4] each, are against ``calm``:
    [h, w, 1] in [0, 1]."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            square = np.float32(0)
            for k in range(3):
                square += (near[i, j, k] - guess[i, j, k]) ** 2
            out[i, j, 0] = square / (square + calm * calm)


@kernel()
def calm_kernel(smoother, smooth, clear, trust, odds):
    """Odds [H, W] from two that were smoothed: less where ``clear`` [h, w, 1] is high; where not,
    less ``trust``."""
    height, width = odds.shape
    for row in range(height):
        y, fy = cell(row, height, clear.shape[0])
        for column in range(width):
            x, fx = cell(column, width, clear.shape[1])
            share = sample(clear, y, fy, x, fx, 0)
            odds[row, column] = smoother[row, column] + share * (
                smooth[row, column] - smoother[row, column]
            )
            trust[row, column] *= share


@kernel()
def settle_kernel(odds, mixed, trust, depth, away, unit, band, core, solid, reach, alpha):
    """``alpha`` [H, W] in ``band`` [H, W]: of mixtures where trusted, else by the odds; ``core``
    elsewhere.

    depth: distance to what is not the person, opaque from ``solid`` on. away: distance to the
    person, empty from ``reach`` on; these in units of ``unit`` pixels.
    """
    zero, one = np.float32(0), np.float32(1)
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            if not band[row, column]:
                alpha[row, column] = np.float32(core[row, column])
                continue
            soft = one / (one + np.float32(math.exp(-odds[row, column])))
            value = soft + trust[row, column] * (mixed[row, column] - soft)
            inner = (depth[row, column] / unit - one) / (solid - one)
            outer = (reach - away[row, column] / unit) / (np.float32(0.5) * reach)
            alpha[row, column] = max(value, min(max(inner, zero), one)) * min(max(outer, zero), one)


@kernel()
def mark_labels(labels, mask, marked):
    """Sets ``marked`` [L] for the labels [H, W] that occur in ``mask`` [H, W]."""
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            if mask[row, column]:
                marked[labels[row, column]] = True


@kernel()
def foreground_kernel(image, alpha, near, behind, noise, out):
    """The foreground's colour at the soft pixels of ``alpha`` [H, W] uint8, into ``out`` [H, W, 3]
    uint8.

    near, behind: [h, w, 4] expected colour and standard deviation of foreground and background. The
    most probable F under I = alpha F + (1 - alpha) B + noise with Gaussians for F and B.
    """
    height, width = alpha.shape
    noise = np.float32(noise)
    for row in range(height):
        y, fy = cell(row, height, near.shape[0])
        for column in range(width):
            level = alpha[row, column]
            if level == 0 or level == 255:
                continue
            x, fx = cell(column, width, near.shape[1])
            a = np.float32(level) / np.float32(255)
            b = np.float32(1) - a
            spread_f = sample(near, y, fy, x, fx, 3)
            spread_b = sample(behind, y, fy, x, fx, 3)
            gain = a * spread_f * spread_f
            gain = gain / (a * gain + b * b * spread_b * spread_b + noise * noise)
            for channel in range(3):
                f = sample(near, y, fy, x, fx, channel)
                rest = (
                    np.float32(image[row, column, channel])
                    - a * f
                    - b * sample(behind, y, fy, x, fx, channel)
                )
                value = f + gain * rest
                out[row, column, channel] = np.uint8(
                    min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5)
                )


@kernel()
def share_kernel(change, falloff, values, other_values, total, other_total, weight, other_weight):
    """Adds the values [H, W] of two frames to each other's total, by how little the picture changed
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
