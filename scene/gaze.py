"""Where eyes look: rotations of the eyeballs, and the eyeLook coefficients that go with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from likeness.scene.transforms import multiply_quats, quats_to_matrices, rotvecs_to_quats

EYES = ("left", "right")
GAZE_FULL_RAD = math.radians(30.0)
"""Angle of the eye at which an eyeLook coefficient is 1."""
GAZE_EXACT_RAD = math.radians(25.0)
"""Angle at which an eye that moves along straight lines is where it should be."""
GAZE_MAX = 0.98
"""Largest eyeLook coefficient that is written."""


def gaze_quats(angles: Tensor) -> Tensor:
    """Rotations wxyz [..., 4] of eyes by angles [..., 2]: yaw to the subject's left, then pitch up
    (radians)."""
    yaw, pitch = angles.unbind(-1)
    zero = torch.zeros_like(yaw)
    about_y = rotvecs_to_quats(torch.stack([zero, yaw, zero], -1))
    return multiply_quats(about_y, rotvecs_to_quats(torch.stack([-pitch, zero, zero], -1)))


def quats_to_gaze(quats: Tensor) -> Tensor:
    """The angles [..., 2] (yaw to the subject's left, pitch up; radians) of eyes' rotations
    [..., 4]: the inverse of ``gaze_quats``. A rotation about the line of sight is ignored."""
    ahead = quats_to_matrices(quats)[..., :, 2]
    return torch.stack(
        [torch.atan2(ahead[..., 0], ahead[..., 2]), ahead[..., 1].clamp(-1, 1).asin()], -1
    )


def eye_look_axes(eye: str) -> dict[str, tuple[int, float]]:
    """The axis of an eye (0 yaw, 1 pitch) that each of its eyeLook coefficients stands for, and its
    sign."""
    outward, side = (1.0 if eye == "left" else -1.0), eye.capitalize()
    return {
        f"eyeLookOut{side}": (0, outward),
        f"eyeLookIn{side}": (0, -outward),
        f"eyeLookUp{side}": (1, 1.0),
        f"eyeLookDown{side}": (1, -1.0),
    }


def gaze_expression(angles: Tensor, names: tuple[str, ...]) -> Tensor:
    """The eyeLook coefficients [T, E] of gaze angles [T, 2, 2]; zero at all other expressions.

    Avatars driven by expressions alone read these, and lids follow the eye's pitch by them.
    """
    result = angles.new_zeros(len(angles), len(names))
    for index, eye in enumerate(EYES):
        for name, (axis, sign) in eye_look_axes(eye).items():
            if name in names:
                result[:, names.index(name)] = (
                    sign * angles[:, index, axis] / GAZE_FULL_RAD
                ).clamp(0, GAZE_MAX)
    return result


def gaze_angles(expression: Tensor, names: tuple[str, ...]) -> Tensor:
    """The gaze angles [T, 2, 2] that eyeLook coefficients [T, E] stand for."""
    angles = expression.new_zeros(len(expression), len(EYES), 2)
    for index, eye in enumerate(EYES):
        for name, (axis, sign) in eye_look_axes(eye).items():
            if name in names:
                angles[:, index, axis] += sign * GAZE_FULL_RAD * expression[:, names.index(name)]
    return angles
