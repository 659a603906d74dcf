"""Divides an image into square cells, small where it is busy, large where it is plain (a
quadtree)."""

from __future__ import annotations

import numpy as np

_SIDES = (8, 4, 2, 1)


def divide(image: np.ndarray, mask: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About ``count`` cells that tile the pixels of ``mask`` [H, W]: corners (x, y) [N, 2] and
    sides [N] in pixels.

    image: [H, W, C], what should be even in a cell. Cells lie in the mask entirely.
    """
    levels = [_Level(image, mask, side) for side in _SIDES]
    low, high = 0.0, float(max(level.error.max(initial=0.0) for level in levels)) + 1e-6
    for _ in range(24):  # bisection on the error that a cell may have
        middle = 0.5 * (low + high)
        number = sum(int(chosen.sum()) for chosen in _choose(levels, middle))
        low, high = (middle, high) if number > count else (low, middle)
    corners, sides = [], []
    for level, chosen in zip(levels, _choose(levels, high)):
        y, x = np.nonzero(chosen)
        corners.append(np.stack([x, y], -1) * level.side)
        sides.append(np.full(len(x), level.side))
    return np.concatenate(corners), np.concatenate(sides)


def cell_means(image: np.ndarray, x: np.ndarray, y: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Mean colours [N, 3] of an image [H, W, 3] in the cells whose middle pixels are given."""
    import cv2

    out = np.empty((len(x), 3), np.float32)
    for side in np.unique(sides):
        chosen = sides == side
        anchor = int(side - 1) // 2
        means = cv2.boxFilter(image, -1, (int(side), int(side)), anchor=(anchor, anchor))
        out[chosen] = means[y[chosen], x[chosen]]
    return out


class _Level:
    """Cells of one side: whether they lie in the mask [h, w], and the sum of squared deviations
    from their mean."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, side: int) -> None:
        self.side = side
        height, width = (size // _SIDES[0] * _SIDES[0] // side for size in mask.shape)
        blocks = image[: height * side, : width * side].astype(np.float64)
        blocks = blocks.reshape(height, side, width, side, -1)
        inside = mask[: height * side, : width * side].reshape(height, side, width, side)
        self.whole = inside.all((1, 3))
        mean = blocks.mean((1, 3), keepdims=True)
        self.error = np.where(self.whole, ((blocks - mean) ** 2).sum((1, 3, 4)), 0.0)


def _choose(levels: list[_Level], most: float) -> list[np.ndarray]:
    """[h, w] bool by level: the largest cells whose error is at most ``most``, and single pixels
    where none is."""
    chosen, free = [], None
    for number, level in enumerate(levels):
        here = level.whole if free is None else level.whole & free
        take = here & (level.error <= most) if number < len(levels) - 1 else here
        chosen.append(take)
        taken = take if free is None else take | ~free
        free = ~np.repeat(np.repeat(taken, 2, 0), 2, 1)
    return chosen
