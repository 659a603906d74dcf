"""Colours from where no frame of a recording looked are those from its nearest direction.

An avatar's colours change with the direction that they are seen from. Beyond the views that it was
fitted to nothing constrains them, and they become coloured speckles. So outside the cone of the
recording's views, widened a little, each Gaussian has its colour from the border of that cone;
within it nothing changes at all. Head and body have cones of their own: a body that stands still is
seen from one side only, however far the head rotates.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics
from likeness.playback.views.trajectories import HEAD_CENTRE
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import invert_transform, transform_points

_RARE = 0.02
"""Share of the recording's views at either end that do not count."""
_MARGIN = math.radians(3.0)
"""The cone is wider by this: so small a rotation shows nothing new."""
FADE = math.radians(10.0)
"""As far outside the cone ``ClampedView.amount`` is 1."""


@dataclasses.dataclass(frozen=True)
class Cone:
    """Directions towards the middle of the head. low, high: yaw and pitch [2] in radians, in a head
    or body frame."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, camera: Camera, T_world_frame: Tensor) -> Cone:
        """The directions from which a fixed camera saw a frame at its poses [T, 4, 4]."""
        angles, _ = _to_angles(camera.in_frame(T_world_frame).center)
        low, high = torch.quantile(angles, angles.new_tensor([_RARE, 1 - _RARE]), 0)
        return cls(low - _MARGIN, high + _MARGIN)

    def to(self, device: torch.device) -> Cone:
        return Cone(self.low.to(device), self.high.to(device))

    def nearest(self, eye: Tensor) -> tuple[Tensor, float]:
        """The eye [3] within the cone nearest in angle to an eye [3], at its distance (that eye
        itself if inside), and how far the given one lies outside, in radians."""
        angles, distance = _to_angles(eye)
        inside = angles.clamp(self.low, self.high)
        outside = float((angles - inside).norm())
        return (eye if outside == 0 else _to_eye(inside, distance)), outside


@dataclasses.dataclass(frozen=True)
class ClampedView:
    """Eyes [3] in the head frame that see head and body from within their cones, and how far
    (radians) the true one lies outside of either."""

    head_eye: Tensor
    body_eye: Tensor
    head_outside: float
    body_outside: float

    @property
    def is_outside(self) -> bool:
        return self.head_outside > 0 or self.body_outside > 0

    def eyes(self, head_weights: Tensor | None) -> Tensor:
        """The eye [3], or [N, 3] of each Gaussian by its weight between head (1) and body."""
        weights = None if head_weights is None else head_weights[:, None]
        return _blended(self.head_eye, self.body_eye, weights)

    def amount(self, head_weights: Tensor | None) -> Tensor:
        """From 0 within the cones to 1 well outside: [], or [N] by the weights."""
        head, body = (
            self.head_eye.new_tensor(min(outside / FADE, 1.0))
            for outside in (self.head_outside, self.body_outside)
        )
        return _blended(head, body, head_weights)


class RecordedViews:
    """The directions from which a bundle's recording shows head and body."""

    def __init__(self, bundle: AvatarBundle, device: torch.device | str = "cpu") -> None:
        camera, recording, device = bundle.default_camera, bundle.recording, torch.device(device)
        self.head = Cone.of(camera, recording.T_world_head).to(device)
        self.body = Cone.of(camera, recording.T_world_body).to(device)

    def clamped(self, state: HeadState, eye: Tensor) -> ClampedView:
        """The eyes that stand in for an eye [3] in the head frame."""
        in_body = transform_points(invert_transform(state.T_head_body), eye[None])[0]
        body, body_outside = self.body.nearest(in_body)
        body = eye if body_outside == 0 else transform_points(state.T_head_body, body[None])[0]
        head, head_outside = self.head.nearest(eye)
        return ClampedView(head, body, head_outside, body_outside)


def seen_from(cloud: GaussianCloud, eyes: Tensor) -> GaussianCloud:
    """A cloud [] with its colours as seen from eyes [3] or [N, 3]; the same from everywhere."""
    directions = torch.nn.functional.normalize(cloud.means - eyes, dim=-1)
    colours = harmonics.evaluate(cloud.sh, directions)
    return dataclasses.replace(cloud, sh=harmonics.from_rgb(colours)[:, None])


def _blended(head: Tensor, body: Tensor, weights: Tensor | None) -> Tensor:
    return head if weights is None else body + weights * (head - body)


def _to_angles(eyes: Tensor) -> tuple[Tensor, Tensor]:
    """Yaw and pitch [*b, 2] in radians and distance [*b] of eyes [*b, 3] in a head frame from the
    head's middle."""
    offset = eyes - eyes.new_tensor(HEAD_CENTRE)
    x, y, z = offset.unbind(-1)
    angles = torch.stack([torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))], -1)
    return angles, offset.norm(dim=-1)


def _to_eye(angles: Tensor, distance: Tensor) -> Tensor:
    yaw, pitch = angles.unbind(-1)
    direction = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
    return direction * distance[..., None] + angles.new_tensor(HEAD_CENTRE)
