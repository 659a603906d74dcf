"""The viewer's cameras: from a browser's viewpoint to the camera of an avatar's world, and back for
the start.

The viewer's frame is the resting head's: +x the subject's left, +y up, +z out of the face, whatever
world an avatar was filmed in. So two avatars stand in the same place, and up is up.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.views.trajectories import HEAD_CENTRE
from likeness.scene.camera import Camera
from likeness.scene.transforms import (
    invert_transform,
    make_transform,
    normalize_quats,
    quats_to_matrices,
)

UP = (0.0, 1.0, 0.0)
MAX_SIDE = 2048  # pixels along a side


@dataclasses.dataclass(frozen=True)
class Viewpoint:
    """Where a browser looks from, in the viewer's frame.

    wxyz: rotation from the camera's axes (OpenCV) to the frame's. position: metres. fov: vertical,
    radians. aspect: width by height.
    """

    wxyz: tuple[float, float, float, float]
    position: tuple[float, float, float]
    fov: float
    aspect: float


@dataclasses.dataclass(frozen=True)
class InitialView:
    """The first view in the browser's terms: the recording's own camera."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    up: tuple[float, float, float]
    fov: float


def image_size(size: int, aspect: float, count: int = 1) -> tuple[int, int]:
    """Width and height in pixels of each of ``count`` images side by side that together have a
    browser's aspect.

    size: pixels along the height.
    """
    aspect = aspect if math.isfinite(aspect) and aspect > 0 else 1.0
    height = max(16, min(size, MAX_SIDE))
    width = max(16, min(round(height * aspect / count), MAX_SIDE))
    return width, height


def camera_of(view: Viewpoint, T_world_rest: Tensor, width: int, height: int) -> Camera:
    """The camera of the world in which the resting head stands at ``T_world_rest`` [4, 4]."""
    rotation = quats_to_matrices(normalize_quats(torch.tensor(view.wxyz, dtype=torch.float32)))
    T_rest_cam = make_transform(rotation, torch.tensor(view.position, dtype=torch.float32))
    focal = 0.5 * height / math.tan(0.5 * view.fov)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    T_world_rest = T_world_rest.to("cpu", torch.float32)
    return Camera(K, invert_transform(T_world_rest @ T_rest_cam), width, height)


def initial_view(bundle: AvatarBundle) -> InitialView:
    """The view of the bundle's camera: from its place, through the middle of its image, to beside
    the head."""
    camera = bundle.default_camera.to("cpu").in_frame(bundle.default_state.T_world_head.to("cpu"))
    T_rest_cam = camera.T_world_cam
    position = T_rest_cam[:3, 3]
    middle = torch.tensor([camera.width / 2, camera.height / 2, 1.0])
    forward = torch.nn.functional.normalize(
        T_rest_cam[:3, :3] @ torch.linalg.inv(camera.K) @ middle, dim=-1
    )
    distance = (torch.tensor(HEAD_CENTRE) - position).norm()
    look_at, up = position + distance * forward, -T_rest_cam[:3, 1]
    fov = 2 * math.atan(0.5 * camera.height / float(camera.K[1, 1]))
    return InitialView(_numbers(position), _numbers(look_at), _numbers(up), fov)


def _numbers(vector: Tensor) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z
