"""Smooth fields on a coarse grid over a picture: cheap, and all that a wall or a colour nearby needs."""

from __future__ import annotations

import cv2
import numpy as np

CELL = 4
"""Pixels per cell and side."""


def shrink(image: np.ndarray) -> np.ndarray:
    """Averages float32 [h, w, ...] over the cells of the grid for a picture [H, W, ...] of floats or 8-bit levels."""
    height, width = image.shape[:2]
    size = (max(2, -(-width // CELL)), max(2, -(-height // CELL)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def enlarge(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A field on the grid at every pixel of a picture of the given shape (bilinear)."""
    return cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def distances(mask: np.ndarray) -> np.ndarray:
    """Distance [H, W] float32 in pixels of every pixel to the nearest one of ``mask`` [H, W]; huge if there is none."""
    if not mask.any():
        return np.full(mask.shape, 1e6, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)


def push_pull(values: np.ndarray, weights: np.ndarray, finest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """``values`` [h, w, 3] where weighted, else the average of the nearest weighted cells; and their spread [h, w].

    Every cell takes the average at the finest level of a pyramid that knows anything there (Gortler et al., "The
    Lumigraph", SIGGRAPH 1996). ``weights`` [h, w] in [0, 1]. ``finest``: cells of the finest level, per side.
    """
    packed = np.dstack([values, np.square(values).sum(-1)]) * weights[..., None]
    known = weights
    if finest > 1:  # in two: OpenCV's area averages take four channels at most
        size = (max(2, weights.shape[1] // finest), max(2, weights.shape[0] // finest))
        packed, known = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (packed, known))
    levels = [np.dstack([packed, known])]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    field = levels[-1][..., :4] / np.maximum(levels[-1][..., 4:], 1e-6)
    for level in reversed(levels[:-1]):
        field = cv2.resize(field, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        own = level[..., :4] / np.maximum(level[..., 4:], 1e-6)
        field += np.clip(4 * level[..., 4:], 0, 1) * (own - field)
    variance = np.maximum(field[..., 3] - np.square(field[..., :3]).sum(-1), 0) / 3
    result = np.ascontiguousarray(field[..., :3]), np.sqrt(variance)
    if finest > 1:
        size = (weights.shape[1], weights.shape[0])
        result = tuple(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR) for part in result)
    return result


def smooth_field(values: np.ndarray, weights: np.ndarray, scale: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A smooth field [h, w, 3] through the weighted cells of ``values`` [h, w, 3], and how wrong it may be [h, w].

    A quadratic surface (walls lit from one side), then push-pull of what remains. What is filled in is taken to be as
    wrong as the known cells, over ``scale`` of them, are off the surface: little for a wall, much for shelves.
    """
    surface = quadratic_surface(values, weights)
    rest = values - surface
    return surface + push_pull(rest, weights)[0], push_pull(rest, weights, finest=scale)[1]


def inliers(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How well each cell fits a quadratic surface through all weighted ones, in [0, 1], by the usual misfit."""
    fit = np.ones_like(weights)
    for _ in range(2):
        misfit = np.abs(values - quadratic_surface(values, weights * fit)).max(-1)
        known = misfit[weights > 0.5]
        scale = 3 * max(float(np.median(known)) if known.size else 0.0, 2.0)
        fit = 1 / (1 + (misfit / scale) ** 4)
    return fit


def quadratic_surface(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least-squares quadratic surface [h, w, 3] through ``values`` [h, w, 3]."""
    height, width = weights.shape
    y, x = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij"
    )
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    weighted = basis * weights.reshape(-1, 1)
    # The ridge keeps the surface flat where few cells are known.
    normal = basis.T @ weighted + np.diag([1e-3, 1, 1, 10, 10, 10]).astype(np.float32)
    coefficients = np.linalg.solve(normal, weighted.T @ values.reshape(-1, values.shape[-1]))
    return (basis @ coefficients).reshape(values.shape)
