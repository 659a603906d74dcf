"""Colours from where no picture looked are those from the nearest direction that a recording has.

An avatar's colours change with the direction that they are seen from. Beyond the views that it was fitted to nothing
holds them in check, and they turn to coloured speckles. So outside the cone of the recording's views, widened a little,
each Gaussian has its colour from the border of that cone; within it nothing changes at all. Head and body have cones of
their own: a body that stands still is seen from one side only, however much the head turns.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from fitting.bundle import AvatarBundle
from playback.trajectories import HEAD_CENTRE
from scene import sh
from scene.camera import Camera
from scene.cloud import GaussianCloud
from scene.head_state import HeadState
from scene.transforms import invert_transform, transform_points

_RARE = 0.02
"""Share of the recording's views at either end that do not count as seen."""
_MARGIN = math.radians(3.0)
"""The cone is wider by this: so small a turn shows nothing new."""


@dataclasses.dataclass(frozen=True)
class Cone:
    """Directions towards the middle of the head. low, high: yaw and pitch [2] in radians, in a head or body frame."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, camera: Camera, T_world_frame: Tensor) -> Cone:
        """Whence a fixed camera saw a frame at its poses [T, 4, 4]."""
        angles, _ = _to_angles(camera.in_frame(T_world_frame).center)
        low, high = torch.quantile(angles, angles.new_tensor([_RARE, 1 - _RARE]), 0)
        return cls(low - _MARGIN, high + _MARGIN)

    def to(self, device: torch.device) -> Cone:
        return Cone(self.low.to(device), self.high.to(device))

    def nearest(self, eye: Tensor) -> Tensor:
        """The eye [3] within the cone nearest in angle to an eye [3], at its distance; that eye itself if inside."""
        angles, distance = _to_angles(eye)
        inside = torch.maximum(torch.minimum(angles, self.high), self.low)
        return eye if torch.equal(inside, angles) else _to_eye(inside, distance)


class SeenViews:
    """The directions from which a bundle's recording shows head and body."""

    def __init__(self, bundle: AvatarBundle, device: torch.device | str = "cpu") -> None:
        camera, recording, device = bundle.default_camera, bundle.recording, torch.device(device)
        self.head = Cone.of(camera, recording.T_world_head).to(device)
        self.body = Cone.of(camera, recording.T_world_body).to(device)

    def eyes(self, state: HeadState, eye: Tensor) -> tuple[Tensor, Tensor]:
        """The eyes [3] that see the head and the body from within their cones, all in the head frame."""
        in_body = transform_points(invert_transform(state.T_head_body), eye[None])[0]
        held = self.body.nearest(in_body)
        body = eye if held is in_body else transform_points(state.T_head_body, held[None])[0]
        return self.head.nearest(eye), body

    @staticmethod
    def hold(cloud: GaussianCloud, head_weights: Tensor | None, head_eye: Tensor, body_eye: Tensor) -> GaussianCloud:
        """A cloud [] with its colours as seen from ``head_eye`` and ``body_eye`` [3] by the weights [N] of the head
        (all 1 if None); the same from everywhere."""
        eye = head_eye if head_weights is None else body_eye + head_weights[:, None] * (head_eye - body_eye)
        directions = torch.nn.functional.normalize(cloud.means - eye, dim=-1)
        return dataclasses.replace(cloud, sh=sh.from_rgb(sh.evaluate(cloud.sh, directions))[:, None])


def _to_angles(eyes: Tensor) -> tuple[Tensor, Tensor]:
    """Yaw and pitch [*b, 2] in radians and distance [*b] of eyes [*b, 3] in a head frame from the head's middle."""
    offset = eyes - eyes.new_tensor(HEAD_CENTRE)
    x, y, z = offset.unbind(-1)
    return torch.stack([torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))], -1), offset.norm(dim=-1)


def _to_eye(angles: Tensor, distance: Tensor) -> Tensor:
    yaw, pitch = angles.unbind(-1)
    direction = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
    return direction * distance[..., None] + angles.new_tensor(HEAD_CENTRE)
