"""Smooth reproducible noise in space, for skin, hair and cloth."""

from __future__ import annotations

import numpy as np

_GRID = 32


def lattice_noise(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """Values [N] of zero mean and about unit variance at points [N, 3]; ``wavelength`` in the
    points' unit.

    Random numbers on a periodic lattice with trilinear interpolation.
    """
    from scipy.ndimage import map_coordinates

    grid = np.random.default_rng(seed).normal(size=(_GRID,) * 3).astype(np.float32)
    coordinates = (points.T * (2.0 / wavelength)) % _GRID
    return 1.8 * map_coordinates(grid, coordinates, order=1, mode="grid-wrap", output=np.float32)


def octave_noise(points: np.ndarray, wavelength: float, seed: int, octaves: int = 3) -> np.ndarray:
    """The sum of ``octaves`` noises [N], each with half the wavelength and about half the strength
    of the last."""
    total = np.zeros(len(points), np.float32)
    for octave in range(octaves):
        total += lattice_noise(points, wavelength / 2**octave, seed + 101 * octave) * 0.5**octave
    return total / 1.3


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between (``low`` may be the larger: then it
    falls)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
