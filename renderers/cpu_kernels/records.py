"""Arrays that go into the kernels together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Cloud(NamedTuple):
    """One image's Gaussians, contiguous."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4]
    scales: np.ndarray  # [N, 3]
    opacities: np.ndarray  # [N]
    sh: np.ndarray  # [N, K, 3]


class CloudGradients(NamedTuple):
    """The gradients of a ``Cloud``, of its screen means, and the sums of these' absolute values."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4]
    scales: np.ndarray  # [N, 3]
    opacities: np.ndarray  # [N]
    sh: np.ndarray  # [N, K, 3]
    means2d: np.ndarray  # [N, 2]
    absolute: np.ndarray  # [N, 2]


class Lists(NamedTuple):
    """Which Gaussians meet a tile, from near to far: ``counts`` entries from ``starts`` on."""

    starts: np.ndarray  # [tiles_y, tiles_x + 1]
    counts: np.ndarray  # [tiles_y, tiles_x + 1]
    entries: np.ndarray  # of one thread


class Images(NamedTuple):
    """Images, or gradients by them. depth: the sum of weight times depth, [0, 0] unless wanted."""

    rgb: np.ndarray  # [H, W, 3]
    alpha: np.ndarray  # [H, W]
    depth: np.ndarray  # [H, W]


class Ends(NamedTuple):
    """Each pixel's final transmittance, and the position in its tile's list where it was
    finished."""

    transmittances: np.ndarray  # [tiles_y, tiles_x, LANES]
    stops: np.ndarray  # [tiles_y, tiles_x, LANES]
