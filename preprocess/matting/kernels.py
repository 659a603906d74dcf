"""The loops over pixels of the matter ``selfie``, compiled by numba (once, then cached on disk)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "fastmath": {"contract", "arcp", "nsz", "reassoc"}}


@njit(inline="always")
def _cell(position, size, cells):
    """The two cells of a grid, and the weight of the second, between which a pixel's centre lies."""
    x = (np.float32(position) + np.float32(0.5)) * np.float32(cells) / np.float32(size) - np.float32(0.5)
    x = min(max(x, np.float32(0)), np.float32(cells - 1))
    first = min(int(x), cells - 2)
    return first, x - np.float32(first)


@njit(inline="always")
def _sample(grid, y, fy, x, fx, channel):
    top = grid[y, x, channel] + fx * (grid[y, x + 1, channel] - grid[y, x, channel])
    bottom = grid[y + 1, x, channel] + fx * (grid[y + 1, x + 1, channel] - grid[y + 1, x, channel])
    return top + fy * (bottom - top)


@njit(inline="always")
def _background(row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise):
    """Colour and standard deviation of the background at a pixel."""
    if seen[row, column]:
        # 1.25 turns a mean absolute deviation into a standard one.
        return (
            mean[row, column, 0] + _sample(light, y, fy, x, fx, 0),
            mean[row, column, 1] + _sample(light, y, fy, x, fx, 1),
            mean[row, column, 2] + _sample(light, y, fy, x, fx, 2),
            max(np.float32(1.25) * deviation[row, column], noise),
        )
    return (
        _sample(guess, y, fy, x, fx, 0),
        _sample(guess, y, fy, x, fx, 1),
        _sample(guess, y, fy, x, fx, 2),
        _sample(guess, y, fy, x, fx, 3),
    )


@njit(**_OPTIONS)
def background_kernel(mean, deviation, seen, light, guess, noise, out):
    """Colour and deviation of the background at every pixel into ``out`` [H, W, 4]."""
    height, width = seen.shape
    for row in range(height):
        y, fy = _cell(row, height, guess.shape[0])
        for column in range(width):
            x, fx = _cell(column, width, guess.shape[1])
            values = _background(row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise)
            for channel in range(4):
                out[row, column, channel] = values[channel]


@njit(**_OPTIONS)
def learn_kernel(image, weights, light, mean, deviation, seen, rate):
    """Joins the pixels of ``image`` whose weight is over a half to the running mean and mean absolute deviation.

    The plate keeps the light of when it was first seen: ``light`` is taken off before.
    """
    height, width = seen.shape
    rate = np.float32(rate)
    for row in range(height):
        y, fy = _cell(row, height, light.shape[0])
        for column in range(width):
            if weights[row, column] <= 0.5:
                continue
            x, fx = _cell(column, width, light.shape[1])
            residual = np.float32(0)
            first = not seen[row, column]
            for channel in range(3):
                value = np.float32(image[row, column, channel]) - _sample(light, y, fy, x, fx, channel)
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


@njit(**_OPTIONS)
def unmix_kernel(image, where, mean, deviation, seen, light, guess, noise, near, mixed, trust):
    """Solves I = alpha F + (1 - alpha) B at the pixels of ``where`` [H, W]: alpha into ``mixed``, both in [0, 1].

    F: colour and spread of the nearest sure foreground, ``near`` [h, w, 4]. ``trust``: how much alpha is worth: little
    where F and B are alike for their noise. A colour far off the line from B to F is another foreground colour.
    """
    height, width = seen.shape
    for row in range(height):
        y, fy = _cell(row, height, guess.shape[0])
        for column in range(width):
            if not where[row, column]:
                continue
            x, fx = _cell(column, width, guess.shape[1])
            b0, b1, b2, sigma = _background(row, column, y, fy, x, fx, mean, deviation, seen, light, guess, noise)
            i0 = np.float32(image[row, column, 0]) - b0
            i1 = np.float32(image[row, column, 1]) - b1
            i2 = np.float32(image[row, column, 2]) - b2
            f0 = _sample(near, y, fy, x, fx, 0) - b0
            f1 = _sample(near, y, fy, x, fx, 1) - b1
            f2 = _sample(near, y, fy, x, fx, 2) - b2
            spread = _sample(near, y, fy, x, fx, 3)
            distance = math.sqrt(f0 * f0 + f1 * f1 + f2 * f2) + np.float32(1e-3)
            along = (i0 * f0 + i1 * f1 + i2 * f2) / distance
            off = math.sqrt(max(i0 * i0 + i1 * i1 + i2 * i2 - along * along, np.float32(0)))
            floor = np.float32(2) * sigma
            alpha = min(max((along - floor) / max(distance - floor, floor), np.float32(0)), np.float32(1))
            square = distance * distance
            worth = square / (square + np.float32(36) * sigma * sigma + spread * spread)
            other = (off - np.float32(3) * sigma) / (np.float32(5) * sigma)
            other = min(max(other, np.float32(0)), np.float32(1))
            mixed[row, column] = alpha + other * (np.float32(1) - alpha)
            trust[row, column] = max(worth, other)


@njit(**_OPTIONS)
def foreground_kernel(image, alpha, near, behind, noise, out):
    """The foreground's colour at the soft pixels of ``alpha`` [H, W] uint8, into ``out`` [H, W, 3] uint8.

    near, behind: [h, w, 4] expected colour and standard deviation of foreground and background. The most probable F
    under I = alpha F + (1 - alpha) B + noise with Gaussians for F and B.
    """
    height, width = alpha.shape
    noise = np.float32(noise)
    for row in range(height):
        y, fy = _cell(row, height, near.shape[0])
        for column in range(width):
            level = alpha[row, column]
            if level == 0 or level == 255:
                continue
            x, fx = _cell(column, width, near.shape[1])
            a = np.float32(level) / np.float32(255)
            b = np.float32(1) - a
            spread_f = _sample(near, y, fy, x, fx, 3)
            spread_b = _sample(behind, y, fy, x, fx, 3)
            gain = a * spread_f * spread_f
            gain = gain / (a * gain + b * b * spread_b * spread_b + noise * noise)
            for channel in range(3):
                f = _sample(near, y, fy, x, fx, channel)
                rest = np.float32(image[row, column, channel]) - a * f - b * _sample(behind, y, fy, x, fx, channel)
                value = f + gain * rest
                out[row, column, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5))
