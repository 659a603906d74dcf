"""Fields on the coarse grid, in numba. See ``likeness.preprocess.matting.grid``."""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, helper, inlined, kernel

# of x and y: the terms of a quadratic surface
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


@helper()
def cell(position, size, cells):
    """The first of the two cells of a grid between which a pixel's centre lies, and the weight of
    the second."""
    x = (np.float32(position) + np.float32(0.5)) * np.float32(cells) / np.float32(
        size
    ) - np.float32(0.5)
    x = min(max(x, np.float32(0)), np.float32(cells - 1))
    first = min(int(x), cells - 2)
    return first, x - np.float32(first)


@inlined(ANY_NUMBER)
def sample(grid, y, fy, x, fx, channel):
    """A channel of ``grid`` [h, w, C] between the cells (y, x) and (y + 1, x + 1), by the weights
    of the latter."""
    top = grid[y, x, channel] + fx * (grid[y, x + 1, channel] - grid[y, x, channel])
    bottom = grid[y + 1, x, channel] + fx * (grid[y + 1, x + 1, channel] - grid[y + 1, x, channel])
    return top + fy * (bottom - top)


@kernel()
def cell_means(image, mask, colours, shares):
    """Means of ``image`` [H, W, 3] over the pixels of ``mask`` [H, W] in each cell, into
    ``colours`` [h, w, 3] (0 where there are none), and which share of the cell these are, into
    ``shares`` [h, w]."""
    height, width = mask.shape
    rows, columns = shares.shape
    tall, wide = height / rows, width / columns
    for i in range(rows):
        for j in range(columns):
            red = green = blue = total = np.float32(0)
            for y in range(int(i * tall), min(int(math.ceil((i + 1) * tall)), height)):
                part = min((i + 1) * tall, y + 1.0) - max(i * tall, np.float64(y))
                for x in range(int(j * wide), min(int(math.ceil((j + 1) * wide)), width)):
                    if mask[y, x]:
                        weight = np.float32(
                            part * (min((j + 1) * wide, x + 1.0) - max(j * wide, np.float64(x)))
                        )
                        red += weight * np.float32(image[y, x, 0])
                        green += weight * np.float32(image[y, x, 1])
                        blue += weight * np.float32(image[y, x, 2])
                        total += weight
            inverse = np.float32(1) / max(total, np.float32(1e-6))
            colours[i, j, 0], colours[i, j, 1], colours[i, j, 2] = (
                red * inverse,
                green * inverse,
                blue * inverse,
            )
            shares[i, j] = total / np.float32(tall * wide)


@kernel()
def pack(values, weights, packed):
    """Weighted colours, their weighted squares, and the weights, side by side: [h, w, 3] and [h, w]
    to [h, w, 5]."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weight, square = weights[i, j], np.float32(0)
            for k in range(3):
                packed[i, j, k] = values[i, j, k] * weight
                square += values[i, j, k] * values[i, j, k]
            packed[i, j, 3], packed[i, j, 4] = square * weight, weight


@helper()
def _mirrored(index, size):
    return -index if index < 0 else 2 * size - 2 - index if index >= size else index


@helper()
def _halved(level):
    """[h, w, 5] by the binomial filter (1, 4, 6, 4, 1) / 16, every second cell."""
    height, width, channels = level.shape
    out = np.empty(((height + 1) // 2, (width + 1) // 2, channels), np.float32)
    near, middle, far = np.float32(0.375), np.float32(0.25), np.float32(0.0625)
    flat = level.reshape(height, width * channels)
    line = np.empty(width * channels, np.float32)
    for i in range(out.shape[0]):
        a, b, c = (
            flat[_mirrored(2 * i - 2, height)],
            flat[_mirrored(2 * i - 1, height)],
            flat[2 * i],
        )
        d, e = flat[_mirrored(2 * i + 1, height)], flat[_mirrored(2 * i + 2, height)]
        for k in range(len(line)):
            line[k] = far * (a[k] + e[k]) + middle * (b[k] + d[k]) + near * c[k]
        for j in range(out.shape[1]):
            p, q = channels * _mirrored(2 * j - 2, width), channels * _mirrored(2 * j - 1, width)
            s, t = channels * _mirrored(2 * j + 1, width), channels * _mirrored(2 * j + 2, width)
            for k in range(channels):
                outer, inner = line[p + k] + line[t + k], line[q + k] + line[s + k]
                out[i, j, k] = far * outer + middle * inner + near * line[2 * j * channels + k]
    return out


@helper()
def _known(level, i, j, k):
    return level[i, j, k] / max(level[i, j, 4], np.float32(1e-6))


@helper()
def _refined(coarse, level):
    """A field [h, w, 4] at the cells of the next finer ``level`` [h, w, 5], which takes over where
    it knows."""
    height, width = level.shape[:2]
    out = np.empty((height, width, 4), np.float32)
    rows, columns = coarse.shape[:2]
    for i in range(height):
        y, fy = cell(i, height, rows)
        for j in range(width):
            x, fx = cell(j, width, columns)
            trust = min(np.float32(4) * level[i, j, 4], np.float32(1))
            for k in range(4):
                field = sample(coarse, y, fy, x, fx, k)
                if trust > 0:
                    field += trust * (_known(level, i, j, k) - field)
                out[i, j, k] = field
    return out


@kernel()
def push_pull_kernel(packed, out):
    """The field of ``packed`` [h, w, 5] (see ``pack``) and its standard deviation into ``out`` [h,
    w, 4]."""
    levels = [packed]
    while min(levels[-1].shape[0], levels[-1].shape[1]) > 2:
        levels.append(_halved(levels[-1]))
    last = levels[-1]
    field = np.empty((last.shape[0], last.shape[1], 4), np.float32)
    for i in range(last.shape[0]):
        for j in range(last.shape[1]):
            for k in range(4):
                field[i, j, k] = _known(last, i, j, k)
    for level in range(len(levels) - 2, -1, -1):
        field = _refined(field, levels[level])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            variance = field[i, j, 3]
            for k in range(3):
                out[i, j, k] = field[i, j, k]
                variance -= field[i, j, k] * field[i, j, k]
            out[i, j, 3] = math.sqrt(max(variance, np.float32(0)) / np.float32(3))


@helper()
def _coordinate(position, size):
    """From -1 at the first cell to 1 at the last."""
    return 2.0 * position / (size - 1) - 1.0


@kernel()
def surface_sums(values, weights, normal, right):
    """Adds the normal equations of the weighted least-squares quadratic surface through ``values``
    [h, w, 3] to ``normal`` [6, 6] and ``right`` [6, 3], float64."""
    height, width = weights.shape
    moments = np.zeros((5, 5))  # of the weights, by powers of x and y
    line, right_line = np.empty(5), np.empty((3, 3))
    for i in range(height):
        y = _coordinate(i, height)
        line[:], right_line[:] = 0, 0
        for j in range(width):
            x, weight = _coordinate(j, width), np.float64(weights[i, j])
            if weight > 0:
                for power in range(5):
                    line[power] += weight
                    if power < 3:
                        for k in range(3):
                            right_line[power, k] += weight * values[i, j, k]
                    weight *= x
        for a in range(5):
            for b in range(5 - a):
                moments[a, b] += line[a] * y**b
        for term in range(6):
            for k in range(3):
                right[term, k] += right_line[_POWERS[term][0], k] * y ** _POWERS[term][1]
    for a in range(6):
        for b in range(6):
            normal[a, b] += moments[_POWERS[a][0] + _POWERS[b][0], _POWERS[a][1] + _POWERS[b][1]]


@kernel()
def surface_kernel(coefficients, surface):
    """The quadratic surface of ``coefficients`` [6, 3] float64 into ``surface`` [h, w, 3]."""
    height, width = surface.shape[:2]
    for k in range(3):
        c0, c1, c2, c3, c4, c5 = coefficients[:, k]
        for i in range(height):
            y = _coordinate(i, height)
            constant, slope = np.float32(c0 + y * (c2 + y * c5)), np.float32(c1 + y * c4)
            for j in range(width):
                x = np.float32(_coordinate(j, width))
                surface[i, j, k] = constant + x * (slope + x * np.float32(c3))


@kernel()
def misfits(values, surface, out):
    """The largest difference of ``values`` and ``surface`` [h, w, 3] over the channels, into
    ``out`` [h, w]."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            worst = np.float32(0)
            for k in range(3):
                worst = max(worst, abs(values[i, j, k] - surface[i, j, k]))
            out[i, j] = worst
