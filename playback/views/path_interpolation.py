"""Cameras between keyframes."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.scene.camera import Camera
from likeness.scene.transforms import (
    conjugate_quats,
    invert_transform,
    make_transform,
    matrices_to_quats,
    multiply_quats,
    quats_to_matrices,
    quats_to_rotvecs,
    rotvecs_to_quats,
)


def interpolate(cameras: list[Camera], times: list[float], fps: float) -> list[Camera]:
    """Cameras of one image size at ``times`` (rising, seconds), sampled ``fps`` times a second, the
    last one included.

    Eyes follow cubic Hermite curves through the keyframes (Catmull and Rom's tangents for unequal
    times), rotations turn evenly from one keyframe to the next, the entries of K go linearly.
    """
    if len(cameras) == 1:
        return cameras
    keys, knots = Camera.stack(cameras), torch.tensor(times, dtype=torch.float64)
    T_frame_cam = keys.T_world_cam.double()
    eyes, quats = T_frame_cam[:, :3, 3], matrices_to_quats(T_frame_cam[:, :3, :3])
    count = int(times[-1] * fps + 1e-6) + 1
    samples = torch.arange(count, dtype=torch.float64) / fps
    left = (torch.searchsorted(knots, samples, right=True) - 1).clamp(0, len(times) - 2)
    share = ((samples - knots[left]) / (knots[left + 1] - knots[left]))[:, None]
    turn = quats_to_rotvecs(multiply_quats(conjugate_quats(quats[left]), quats[left + 1]))
    rotation = quats_to_matrices(multiply_quats(quats[left], rotvecs_to_quats(turn * share)))
    poses = invert_transform(make_transform(rotation, _hermite(eyes, knots, left, share))).float()
    K = keys.K[left] + (keys.K[left + 1] - keys.K[left]) * share[..., None].float()
    return [Camera(K[i], poses[i], keys.width, keys.height) for i in range(count)]


def _hermite(points: Tensor, knots: Tensor, left: Tensor, share: Tensor) -> Tensor:
    """Positions [n, 3] on the curve through points [k, 3] at knots [k]."""
    slopes = (points[1:] - points[:-1]) / knots.diff()[:, None]
    tangents = torch.cat([slopes[:1], slopes[:1].expand(len(points) - 2, 3), slopes[-1:]])
    if len(points) > 2:
        tangents = tangents.clone()
        tangents[1:-1] = (points[2:] - points[:-2]) / (knots[2:] - knots[:-2])[:, None]
    step = (knots[left + 1] - knots[left])[:, None]
    s2, s3 = share**2, share**3
    return (
        (2 * s3 - 3 * s2 + 1) * points[left]
        + (s3 - 2 * s2 + share) * step * tangents[left]
        + (3 * s2 - 2 * s3) * points[left + 1]
        + (s3 - s2) * step * tangents[left + 1]
    )
