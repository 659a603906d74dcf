"""Poses by angles: of the head about its neck, and of the eyes."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.gaze import EYES, gaze_quats
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

# metres in the head frame: what the head turns about where only angles are known
_NECK = (0.0, -0.105, -0.085)


def head_rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotations [*b, 3, 3] in the head frame, Ry(yaw) Rx(-pitch) Rz(roll), of angles [*b], radians.

    yaw is positive to the subject's left, pitch upwards, roll with the subject's left side rising:
    ARKit's signs.
    """
    zero = torch.zeros_like(yaw)
    about_y = rotvecs_to_matrices(torch.stack([zero, yaw, zero], -1))
    about_x = rotvecs_to_matrices(torch.stack([-pitch, zero, zero], -1))
    return about_y @ about_x @ rotvecs_to_matrices(torch.stack([zero, zero, roll], -1))


def head_pose(bundle: AvatarBundle, rotation: Tensor) -> Tensor:
    """T_world_head [*b, 4, 4] of the avatar's head, rotated from its rest about the neck by
    rotations [*b, 3, 3] of its own frame."""
    rest = bundle.default_state.T_world_head.cpu().to(rotation)
    neck = torch.tensor(_NECK, dtype=rotation.dtype)
    return rest @ make_transform(rotation, neck - rotation @ neck)


def eye_joints(bundle: AvatarBundle, angles: Tensor) -> Tensor:
    """The avatar's joints [*b, J, 4] (quaternions wxyz), all at rest but the eyes, which look by
    angles [*b, 2, 2] (left and right; yaw to the subject's left, pitch up; radians)."""
    names = bundle.joint_names
    joints = angles.new_zeros(*angles.shape[:-2], len(names), 4)
    joints[..., 0] = 1
    for number, eye in enumerate(EYES):
        if f"eye_{eye}" in names:
            joints[..., names.index(f"eye_{eye}"), :] = gaze_quats(angles[..., number, :])
    return joints
