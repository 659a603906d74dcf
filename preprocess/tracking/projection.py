"""The pinhole projection of landmarks and its derivatives, batched over frames."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.scene.transforms import skew

# The solver's units: 0.1 rad and 1 cm move landmarks about as much as an expression coefficient of
# 1.
ROTATION_UNIT = 0.1
TRANSLATION_UNIT = 0.01


def project(
    K: Tensor, rotation: Tensor, translation: Tensor, points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [T, L, 2], derivatives by camera-frame position [T, L, 2, 3], and rotated points [T,
    L, 3].

    K [3, 3]; rotation [T, 3, 3] and translation [T, 3] from head to camera; points [T, L, 3] or [L,
    3] in the head frame, metres. ``rotated`` is the points' position relative to the head's origin,
    in camera axes.
    """
    rotated = points @ rotation.transpose(-1, -2)
    in_camera = rotated + translation[:, None]
    inverse_depth = 1.0 / in_camera[..., 2:].clamp_min(1e-3)
    normalized = in_camera[..., :2] * inverse_depth
    pixels = normalized @ K[:2, :2].T + K[:2, 2]
    # d(x/z, y/z) / d(x, y, z), then the (possibly skewed) intrinsics.
    jacobian = torch.cat(
        [torch.eye(2, dtype=K.dtype).expand(*normalized.shape[:-1], 2, 2), -normalized[..., None]],
        dim=-1,
    )
    jacobian = (K[:2, :2] @ jacobian) * inverse_depth[..., None]
    return pixels, jacobian, rotated


def pose_jacobian(by_camera: Tensor, rotated: Tensor) -> Tensor:
    """Derivatives [T, L, 2, 6] of pixels by the head pose, in the solver's units.

    The rotation is perturbed on the left (``R <- exp(w) R``), about the head's origin and in camera
    axes.
    """
    by_rotation = -(by_camera @ skew(rotated))
    return torch.cat([by_rotation * ROTATION_UNIT, by_camera * TRANSLATION_UNIT], dim=-1)
