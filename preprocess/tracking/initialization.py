"""The first pose of each frame: closed form, under scaled orthography."""

from __future__ import annotations

import torch
from torch import Tensor


def initial_poses(
    K: Tensor, rest: Tensor, points: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Head poses ([T, 3, 3], [T, 3], head to camera) that put the mean head's landmarks near those
    seen.

    K [3, 3]; rest [L, 3] metres in the head frame; points [T, L, 2] pixels; weights [T, L]. A
    weighted affine fit of the normalised image points to the mean head gives two rows of scale
    times rotation (POSIT's first step: DeMenthon and Davis 1995); its nearest scaled rotation and
    the depth follow. Three rounds of re-weighting let go of outliers.
    """
    normalized = torch.cat([points, torch.ones_like(points[..., :1])], -1) @ torch.linalg.inv(K).T
    normalized = normalized[..., :2]
    design = torch.cat([rest, torch.ones_like(rest[:, :1])], -1)
    robust = torch.ones_like(weights)
    for _ in range(3):
        weighted = (weights * robust)[..., None] * design
        normal = weighted.transpose(-1, -2) @ design + 1e-12 * torch.eye(4, dtype=rest.dtype)
        affine = torch.linalg.solve(normal, weighted.transpose(-1, -2) @ normalized)  # [T, 4, 2]
        error = (design @ affine - normalized).norm(dim=-1)
        scale = error.median(dim=-1, keepdim=True).values.clamp_min(1e-9)
        robust = 1 / (1 + (error / (2 * scale)) ** 2)
    rows = affine[:, :3].transpose(-1, -2)
    # The head faces the camera: undo the flip between the frames' axes first, so that the polar
    # factor is near one.
    u, singular, vt = torch.linalg.svd(rows, full_matrices=False)
    two = u @ vt
    rotation = torch.cat([two, torch.linalg.cross(two[:, 0], two[:, 1])[:, None]], dim=1)
    inverse_depth = singular.mean(-1, keepdim=True).clamp_min(1e-6)
    translation = torch.cat([affine[:, 3], torch.ones_like(inverse_depth)], -1) / inverse_depth
    # Scaled orthography sees the head along the ray to it; turn it back to the optical axis's
    # frame.
    ray = torch.nn.functional.normalize(translation, dim=-1)
    return _rotation_from_axis(ray) @ rotation, translation


def _rotation_from_axis(ray: Tensor) -> Tensor:
    """Smallest rotations [T, 3, 3] that turn the optical axis (0, 0, 1) into unit rays [T, 3]."""
    x, y, z = ray.unbind(-1)
    k = 1 / (1 + z)
    rows = [1 - x * x * k, -x * y * k, x, -x * y * k, 1 - y * y * k, y, -x, -y, z]
    return torch.stack(rows, -1).reshape(-1, 3, 3)
