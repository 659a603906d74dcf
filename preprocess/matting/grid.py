"""Smooth fields on a coarse grid over an image: cheap, and all that a wall or a colour nearby
needs."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from likeness.preprocess.matting.kernels import cell_means

CELL = 4
"""Pixels per cell and side."""
# keeps a quadratic surface flat where few cells are known
_RIDGE = np.diag([1e-3, 1, 1, 10, 10, 10])


def _cells(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the grid for an image [H, W, ...]."""
    return max(2, -(-shape[0] // CELL)), max(2, -(-shape[1] // CELL))


def shrink(image: np.ndarray) -> np.ndarray:
    """Averages float32 [h, w, ...] over the cells of the grid for an image [H, W, ...] of floats
    or 8-bit levels."""
    size = _cells(image.shape)[::-1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def masked_means(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages over those pixels of each cell that are in ``mask`` [H, W] bool, and their share of
    the cell.

    image: [H, W, 3] uint8 or float32. Returns float32 [h, w, 3], 0 where there are none, and [h, w]
        in [0, 1].
    """
    size = _cells(image.shape)
    colours, shares = np.empty((*size, 3), np.float32), np.empty(size, np.float32)
    cell_means(np.ascontiguousarray(image), mask, colours, shares)
    return colours, shares


def enlarge(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A field on the grid at every pixel of an image of the given shape (bilinear)."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)


def distances(mask: np.ndarray) -> np.ndarray:
    """Distance [H, W] float32 in pixels of every pixel to the nearest one of ``mask`` [H, W]; huge
    if there is none."""
    if not mask.any():
        return np.full(mask.shape, 1e6, np.float32)
    return np.asarray(cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3), np.float32)


def push_pull(values: np.ndarray, weights: np.ndarray, finest: int = 1) -> np.ndarray:
    """``values`` [h, w, 3] where weighted, else the average of the nearest weighted cells; with
    their spread [h, w, 4].

    Every cell takes the average at the finest level of a pyramid that knows anything there (Gortler
    et al., "The Lumigraph", SIGGRAPH 1996). ``weights`` [h, w] in [0, 1]. ``finest``: cells of the
    finest level, per side. All float32.
    """
    # the weights once for each channel: NumPy is slow over short rows
    shape, share = weights.shape, cv2.merge([weights] * 4)
    known = cv2.merge([*cv2.split(values), cv2.transform(values * values, np.ones((1, 3)))])
    known *= share
    if finest > 1:
        size = (max(2, shape[1] // finest), max(2, shape[0] // finest))
        known, share = (
            cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (known, share)
        )
    levels = [(known, share)]
    while min(share.shape[:2]) > 2:
        known, share = cv2.pyrDown(known), cv2.pyrDown(share)
        levels.append((known, share))
    field = known / np.maximum(share, 1e-6)
    for known, share in levels[-2::-1]:
        field = enlarge(field, share.shape)
        known /= np.maximum(share, 1e-6)
        known -= field
        known *= np.minimum(4 * share, 1)
        field += known
    variance = field[..., 3] - cv2.transform(field * field, np.array([[1.0, 1, 1, 0]]))
    field[..., 3] = np.sqrt(np.maximum(variance, 0) / 3)
    return field if finest == 1 else enlarge(field, shape)


def smooth_field(values: np.ndarray, weights: np.ndarray, scale: int = 8) -> np.ndarray:
    """A smooth field through the weighted cells of ``values`` [h, w, 3], and how wrong it may be:
    [h, w, 4].

    A quadratic surface (walls lit from one side), then push-pull of what remains. What is filled in
    is taken to be as wrong as the known cells, over ``scale`` of them, are off the surface: little
    for a wall, much for shelves.
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
    fit = np.ones_like(weights)
    inside = weights > 0.5
    for _ in range(2):
        apart = cv2.absdiff(values, quadratic_surface(values, weights * fit))
        misfit = np.maximum.reduce(cv2.split(apart))
        known = misfit[inside]
        scale = 3 * max(float(np.median(known)) if known.size else 0.0, 2.0)
        fit = 1 / (1 + np.square(np.square(misfit / scale)))
    return fit


def quadratic_surface(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least-squares quadratic surface [h, w, 3] through ``values`` [h, w, 3], all
    float32."""
    basis = _quadratic_basis(*weights.shape)
    weighted = basis * weights.reshape(-1)
    coefficients = np.linalg.solve(
        _RIDGE + weighted @ basis.T, weighted @ values.reshape(-1, values.shape[-1])
    )
    return (basis.T @ coefficients.astype(np.float32)).reshape(values.shape)


@functools.lru_cache(maxsize=4)
def _quadratic_basis(height: int, width: int) -> np.ndarray:
    """The terms of a quadratic surface [6, h·w] over coordinates from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    return terms.reshape(6, -1).astype(np.float32)
