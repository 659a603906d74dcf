"""Writes states as the curves that a phone capture app would have recorded."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from likeness.head_models.arkit import ARKIT_EXPRESSIONS
from likeness.scene.gaze import quats_to_gaze
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import mean_transform

HEADER = (
    "Timecode",
    "BlendShapeCount",
    *(name[0].upper() + name[1:] for name in ARKIT_EXPRESSIONS),
    "HeadYaw",
    "HeadPitch",
    "HeadRoll",
    "LeftEyeYaw",
    "LeftEyePitch",
    "LeftEyeRoll",
    "RightEyeYaw",
    "RightEyePitch",
    "RightEyeRoll",
)


def timecode(seconds: float, rate: float, start: float = 47245.0) -> str:
    """HH:MM:SS:FF.fff of a moment, counted from 13:07:25 unless told otherwise."""
    whole = int((start + seconds + 1e-9) % 86400)
    frame = ((start + seconds) % 1) * rate
    frame = 0.0 if rate - frame < 5e-4 else frame
    if frame == 0.0 and (start + seconds) % 1 > 0.5:
        whole += 1
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame:06.3f}"


def angles_of(rotations: Tensor) -> Tensor:
    """[T, 3] yaw, pitch, roll of head rotations [T, 3, 3] = Ry(yaw) Rx(-pitch) Rz(roll)."""
    yaw = torch.atan2(rotations[:, 0, 2], rotations[:, 2, 2])
    return torch.stack(
        [yaw, rotations[:, 1, 2].asin(), torch.atan2(rotations[:, 1, 0], rotations[:, 1, 1])], -1
    )


def table(
    states: HeadState, names: tuple[str, ...], times, rate: float = 60, start: float = 47245.0
):
    """Header and lines as cells. The head's angles are from its mean pose; joints are the left and
    the right eye."""
    order = [names.index(name) for name in ARKIT_EXPRESSIONS]
    rest = mean_transform(states.T_world_head)[:3, :3]
    head = angles_of(rest.T @ states.T_world_head[:, :3, :3])
    eyes = quats_to_gaze(states.joints)
    eyes = torch.cat([eyes, torch.zeros_like(eyes[..., :1])], -1).flatten(1)
    values = torch.cat([states.expression[:, order], head, eyes], 1)
    lines = [
        [timecode(float(time), rate, start), "61", *(f"{value:.7f}" for value in row.tolist())]
        for time, row in zip(times, values)
    ]
    return [list(HEADER), *lines]


def write(path: Path, cells: list[list[str]]) -> Path:
    path.write_text("\n".join(",".join(row) for row in cells) + "\n")
    return path
