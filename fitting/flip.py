"""FLIP, the visibility of differences between two images to a person who flips between them.

Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström and Fairchild, "FLIP: A Difference Evaluator
for Alternating Images" (HPG 2020), for images of ordinary range. 0: no difference, 1: the largest.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180
"""Of a screen of 0.7 m and 3840 pixels, 0.7 m away: the paper's."""

_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(1)
# Contrast sensitivity of luminance, red-green and blue-yellow: two Gaussians (a, b) each.
_SENSITIVITY = (
    ((1.0, 0.0047), (0.0, 1e-5)),
    ((1.0, 0.0053), (0.0, 1e-5)),
    ((34.1, 0.04), (13.5, 0.025)),
)
_FEATURE_WIDTH = 0.082  # degrees
_QC, _PC, _PT, _QF = 0.7, 0.4, 0.95, 0.5

_Image = NDArray[Any]


def flip(image: Any, target: Any, pixels_per_degree: float = PIXELS_PER_DEGREE) -> _Image:
    """The map [H, W] float64 in [0, 1] of two images [H, W, 3] in [0, 1], sRGB-encoded (arrays or
    tensors of the CPU); its mean is the figure."""
    x, y = (_opponent(_linear(np.clip(np.asarray(i, np.float64), 0, 1))) for i in (image, target))
    seen = [_perceived(values, pixels_per_degree) for values in (x, y)]
    limit = _hyab(*(_hunt(np.array([[c]], np.float64)) for c in ((0, 1, 0), (0, 0, 1))))
    largest = float(limit.item()) ** _QC
    colour = _hyab(*map(_hunt, seen)) ** _QC
    knee = _PC * largest
    colour = np.where(
        colour < knee, _PT / knee * colour, _PT + (colour - knee) / (largest - knee) * (1 - _PT)
    )
    edges, points = zip(*(_features((v[..., 0] + 16) / 116, pixels_per_degree) for v in (x, y)))
    features = np.maximum(abs(edges[0] - edges[1]), abs(points[0] - points[1]))
    features = np.clip(features / math.sqrt(2), 0, 1) ** _QF
    return np.clip(colour, 0, 1) ** (1 - features)


def _linear(rgb: _Image) -> _Image:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _opponent(linear: _Image) -> _Image:
    """Linear RGB to YCxCz, which is linear in it too."""
    x, y, z = np.moveaxis(linear @ _TO_XYZ.T / _WHITE, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _from_opponent(values: _Image) -> _Image:
    y = (values[..., 0] + 16) / 116
    x, z = values[..., 1] / 500 + y, y - values[..., 2] / 200
    return (np.stack([x, y, z], -1) * _WHITE) @ np.linalg.inv(_TO_XYZ).T


def _perceived(values: _Image, pixels_per_degree: float) -> _Image:
    """YCxCz as an eye resolves it, as linear RGB."""
    filtered = np.empty_like(values)
    for channel, kernel in enumerate(_sensitivity_kernels(pixels_per_degree)):
        filtered[..., channel] = _filtered(values[..., channel], kernel)
    return np.clip(_from_opponent(filtered), 0, 1)


@functools.lru_cache(maxsize=4)
def _sensitivity_kernels(pixels_per_degree: float) -> tuple[_Image, ...]:
    widest = max(b for gaussians in _SENSITIVITY for _, b in gaussians)
    radius = math.ceil(3 * math.sqrt(widest / (2 * math.pi**2)) * pixels_per_degree)
    squares = _squares(radius) / pixels_per_degree**2
    kernels = []
    for gaussians in _SENSITIVITY:
        kernel = sum(
            a * math.sqrt(math.pi / b) * np.exp(-(math.pi**2) * squares / b) for a, b in gaussians
        )
        kernels.append(kernel / np.sum(kernel))
    return tuple(kernels)


def _squares(radius: int) -> _Image:
    steps = np.arange(-radius, radius + 1.0)
    return steps[:, None] ** 2 + steps**2


def _filtered(values: _Image, kernel: _Image) -> _Image:
    import cv2

    # OpenCV correlates: the kernel is turned around
    return cv2.filter2D(values, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REPLICATE)


def _hunt(linear: _Image) -> _Image:
    """CIELAB whose chroma grows with lightness (Hunt's effect)."""
    ratio = linear @ _TO_XYZ.T / _WHITE
    delta = 6 / 29
    f = np.where(ratio > delta**3, np.cbrt(ratio), ratio / (3 * delta**2) + 4 / 29)
    lightness = 116 * f[..., 1] - 16
    a, b = 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    return np.stack([lightness, 0.01 * lightness * a, 0.01 * lightness * b], -1)


def _hyab(one: _Image, other: _Image) -> _Image:
    difference = one - other
    return abs(difference[..., 0]) + np.hypot(difference[..., 1], difference[..., 2])


def _features(lightness: _Image, pixels_per_degree: float) -> tuple[_Image, _Image]:
    """How strong edges and points are in each pixel."""
    edge, point = _feature_kernels(pixels_per_degree)
    return tuple(  # pyright: ignore[reportReturnType]
        np.hypot(_filtered(lightness, kernel), _filtered(lightness, kernel.T))
        for kernel in (edge, point)
    )


@functools.lru_cache(maxsize=4)
def _feature_kernels(pixels_per_degree: float) -> tuple[_Image, _Image]:
    """First and second derivative of a Gaussian along x; negative and positive weights sum to 1
    each."""
    sigma = 0.5 * _FEATURE_WIDTH * pixels_per_degree
    radius = math.ceil(3 * sigma)
    gaussian = np.exp(-_squares(radius) / (2 * sigma**2))
    x = np.arange(-radius, radius + 1.0)[None]

    def balanced(kernel: _Image) -> _Image:
        positive, negative = np.maximum(kernel, 0), np.minimum(kernel, 0)
        return positive / positive.sum() - negative / negative.sum()

    return balanced(-x * gaussian), balanced((x**2 / sigma**2 - 1) * gaussian)
