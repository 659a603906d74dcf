"""Smooth fields on a coarse grid over a picture: cheap, and all that a wall or a colour nearby
needs."""

from __future__ import annotations

import cv2
import numpy as np

from likeness.preprocess.matting.grid_kernels import (
    cell_means,
    misfits,
    pack,
    push_pull_kernel,
    surface_kernel,
    surface_sums,
)

CELL = 4
"""Pixels per cell and side."""
# keeps a quadratic surface flat where few cells are known
_RIDGE = np.diag([1e-3, 1, 1, 10, 10, 10])


def _cells(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the grid for a picture [H, W, ...]."""
    return max(2, -(-shape[0] // CELL)), max(2, -(-shape[1] // CELL))


def shrink(image: np.ndarray) -> np.ndarray:
    """Averages float32 [h, w, ...] over the cells of the grid for a picture [H, W, ...] of floats
    or 8-bit levels."""
    return cv2.resize(image, _cells(image.shape)[::-1], interpolation=cv2.INTER_AREA).astype(
        np.float32, copy=False
    )


def masked_means(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages over those pixels of each cell that are in ``mask`` [H, W] bool, and their share of
    the cell.

    image: [H, W, 3] uint8 or float32. Returns float32 [h, w, 3], 0 where there are none, and [h, w]
        in [0, 1].
    """
    size = _cells(image.shape)
    colours, shares = np.empty((*size, 3), np.float32), np.empty(size, np.float32)
    cell_means(np.ascontiguousarray(image), np.ascontiguousarray(mask), colours, shares)
    return colours, shares


def enlarge(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A field on the grid at every pixel of a picture of the given shape (bilinear)."""
    return cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def distances(mask: np.ndarray) -> np.ndarray:
    """Distance [H, W] float32 in pixels of every pixel to the nearest one of ``mask`` [H, W]; huge
    if there is none."""
    if not mask.any():
        return np.full(mask.shape, 1e6, np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def push_pull(values: np.ndarray, weights: np.ndarray, finest: int = 1) -> np.ndarray:
    """``values`` [h, w, 3] where weighted, else the average of the nearest weighted cells; with
    their spread [h, w, 4].

    Every cell takes the average at the finest level of a pyramid that knows anything there (Gortler
    et al., "The Lumigraph", SIGGRAPH 1996). ``weights`` [h, w] in [0, 1]. ``finest``: cells of the
    finest level, per side. All float32.
    """
    height, width = weights.shape
    packed = np.empty((height, width, 5), np.float32)
    pack(np.ascontiguousarray(values), np.ascontiguousarray(weights), packed)
    if finest > 1:  # in two: OpenCV's area averages take four channels at most
        size = (max(2, width // finest), max(2, height // finest))
        halves = (
            cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            for part in (packed[..., :3], packed[..., 3:])
        )
        packed = np.ascontiguousarray(np.dstack(list(halves)))
    field = np.empty((*packed.shape[:2], 4), np.float32)
    push_pull_kernel(packed, field)
    return (
        field if finest == 1 else cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    )


def smooth_field(values: np.ndarray, weights: np.ndarray, scale: int = 8) -> np.ndarray:
    """A smooth field through the weighted cells of ``values`` [h, w, 3], and how wrong it may be:
    [h, w, 4].

    A quadratic surface (walls lit from one side), then push-pull of what remains. What is filled in
    is taken to be as
    wrong as the known cells, over ``scale`` of them, are off the surface: little for a wall, much
        for shelves.
    """
    surface = quadratic_surface(values, weights)
    rest = values - surface
    field = push_pull(rest, weights)
    field[..., :3] += surface
    field[..., 3] = push_pull(rest, weights, finest=scale)[..., 3]
    return field


def inliers(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How well each cell fits a quadratic surface through all weighted ones, in [0, 1], by the
    usual misfit."""
    fit, misfit = np.ones_like(weights), np.empty_like(weights)
    inside = weights > 0.5
    for _ in range(2):
        misfits(values, quadratic_surface(values, weights * fit), misfit)
        known = misfit[inside]
        scale = 3 * max(float(np.median(known)) if known.size else 0.0, 2.0)
        fit = 1 / (1 + np.square(np.square(misfit / scale)))
    return fit


def quadratic_surface(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least-squares quadratic surface [h, w, 3] through ``values`` [h, w, 3], all
    float32."""
    normal, right = _RIDGE.copy(), np.zeros((6, 3))
    surface_sums(values, weights, normal, right)
    surface = np.empty(values.shape, np.float32)
    surface_kernel(np.linalg.solve(normal, right), surface)
    return surface
