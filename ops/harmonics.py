"""Real spherical harmonics to degree 3, in the order and signs that 3D Gaussian splatting uses."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (
    1.0925484305920792,
    -1.0925484305920792,
    0.31539156525252005,
    -1.0925484305920792,
    0.5462742152960396,
)
C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)


def num_coefficients(degree: int) -> int:
    """Coefficients per colour channel of harmonics up to a degree of 0 to 3."""
    if degree not in (0, 1, 2, 3):
        raise ValueError(f"spherical harmonics: expected a degree from 0 to 3, got {degree}")
    return (degree + 1) ** 2


def basis(directions: Tensor, degree: int) -> Tensor:
    """The harmonics [*b, (degree + 1)²] at unit directions [*b, 3]."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        values += [
            C2[0] * xy,
            C2[1] * yz,
            C2[2] * (2 * zz - xx - yy),
            C2[3] * xz,
            C2[4] * (xx - yy),
        ]
        if degree >= 3:
            values += [
                C3[0] * y * (3 * xx - yy),
                C3[1] * xy * z,
                C3[2] * y * (4 * zz - xx - yy),
                C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
                C3[4] * x * (4 * zz - xx - yy),
                C3[5] * z * (xx - yy),
                C3[6] * x * (xx - 3 * yy),
            ]
    return torch.stack(values, -1)


def evaluate(sh: Tensor, directions: Tensor) -> Tensor:
    """Colours [*b, 3] >= 0 of coefficients [*b, K, 3] seen along unit directions [*b, 3] (camera to
    Gaussian)."""
    degree = round(sh.shape[-2] ** 0.5) - 1
    return ((basis(directions, degree)[..., None] * sh).sum(-2) + 0.5).clamp_min(0)


def from_rgb(rgb: Tensor) -> Tensor:
    """The constant coefficient [*b, 3] that shows a colour [*b, 3]."""
    return (rgb - 0.5) / C0


# Enough directions in general position to fix the 16 coefficients of degree 3 (a Fibonacci sphere).
_NUM_SAMPLES = 48


def _sample_directions() -> Tensor:
    index = torch.arange(_NUM_SAMPLES, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / _NUM_SAMPLES
    azimuth = torch.pi * (1 + 5**0.5) * index
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], -1)


def rotation_matrices(rotations: Tensor, degree: int) -> Tensor:
    """Matrices [*b, K, K] that turn coefficients with a rotation [*b, 3, 3]: the real Wigner D
    matrices.

    If f has coefficients c, then d -> f(Rᵀ d) has coefficients ``D @ c``. Found by sampling: the
    harmonics of each band are closed under rotation, so that the least-squares solution is exact.
    """
    directions, solve = _samples_on(degree, rotations.dtype, rotations.device)
    return solve @ basis(directions @ rotations, degree)


def _samples_on(degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """``rotation_samples`` where they are needed: copied to a GPU once, not at every step."""
    place = degree, dtype, device
    if place not in samples_by_place:
        with torch.inference_mode(False):  # whoever asks next may want gradients
            directions, solve = rotation_samples(degree)
            samples_by_place[place] = directions.to(device, dtype), solve.to(device, dtype)
    return samples_by_place[place]


# Not an lru_cache: torch.compile would look past it and solve for them again in every image.
samples_by_place: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}


@functools.lru_cache
def rotation_samples(degree: int) -> tuple[Tensor, Tensor]:
    """Sample directions [48, 3] and the pseudo-inverse [K, 48] of the harmonics there, float64."""
    directions = _sample_directions()
    return directions, torch.linalg.pinv(basis(directions, degree))
