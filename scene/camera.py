"""The pinhole camera, and the only place that converts to and from other camera conventions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likeness.scene.checks import check_same_batch, check_shape
from likeness.scene.records import TensorRecord
from likeness.scene.transforms import invert_transform, make_transform, transform_points

# OpenGL and Blender cameras look along -z with +y up; OpenCV's along +z with +y down.
_OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


@dataclasses.dataclass(frozen=True, repr=False)
class Camera(TensorRecord):
    """Pinhole cameras with leading batch dimensions.

    K: [*b, 3, 3] intrinsics in pixels (pixel centres at +0.5).
    T_cam_world: [*b, 4, 4] rigid transform from world to camera (OpenCV axes).
    width, height: image size in pixels.
    """

    K: Tensor
    T_cam_world: Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        batches = {
            "K": check_shape("Camera", "K", self.K, (3, 3)),
            "T_cam_world": check_shape("Camera", "T_cam_world", self.T_cam_world, (4, 4)),
        }
        check_same_batch("Camera", batches)
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"Camera: expected a positive image size, got {self.width}x{self.height}"
            )

    @classmethod
    def from_fov(
        cls, fov_x: float, width: int, height: int, T_cam_world: Tensor | None = None
    ) -> Camera:
        """A camera with square pixels, a centred principal point and a horizontal field of view in
        radians."""
        focal = 0.5 * width / math.tan(0.5 * fov_x)
        K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
        return cls(K, torch.eye(4) if T_cam_world is None else T_cam_world, width, height)

    @classmethod
    def looking_at(
        cls, K: Tensor, eye: Tensor, target: Tensor, up: Tensor, width: int, height: int
    ) -> Camera:
        """A camera at ``eye`` [3] that looks at ``target`` [3], with ``up`` [3] towards the top of
        the image."""
        forward = torch.nn.functional.normalize(target - eye, dim=-1)
        right = torch.nn.functional.normalize(forward.cross(up, dim=-1), dim=-1)
        down = forward.cross(right, dim=-1)
        rotation = torch.stack([right, down, forward])
        return cls(K, make_transform(rotation, -rotation @ eye), width, height)

    @classmethod
    def from_opengl(cls, K: Tensor, T_world_cam_gl: Tensor, width: int, height: int) -> Camera:
        """From an OpenGL/Blender/NeRF camera-to-world matrix [*b, 4, 4] (camera looks along -z, +y
        up)."""
        flip = _OPENGL_FROM_OPENCV.to(T_world_cam_gl)
        return cls(K, invert_transform(T_world_cam_gl @ flip), width, height)

    @classmethod
    def stack(cls, items: Sequence[Camera]) -> Camera:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One batch from cameras of the same image size."""
        sizes = {(camera.width, camera.height) for camera in items}
        if len(sizes) != 1:
            raise ValueError(
                f"Camera.stack: expected cameras of one image size, got {sorted(sizes)}"
            )
        return cls._joined(torch.stack, items)

    def __getitem__(self, index: Any) -> Camera:
        return self.map(lambda tensor: tensor[index])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.K.shape[:-2])

    @property
    def T_world_cam(self) -> Tensor:
        return invert_transform(self.T_cam_world)

    @property
    def center(self) -> Tensor:
        """The camera's centre in the world, [*b, 3]."""
        rotation, translation = self.T_cam_world[..., :3, :3], self.T_cam_world[..., :3, 3:]
        return -(rotation.transpose(-1, -2) @ translation)[..., 0]

    def in_frame(self, T_world_frame: Tensor) -> Camera:
        """The same camera seen from another frame: its world becomes ``frame``."""
        T_cam_frame = self.T_cam_world @ T_world_frame
        K = self.K.expand(*T_cam_frame.shape[:-2], 3, 3)
        return dataclasses.replace(self, K=K, T_cam_world=T_cam_frame)

    def resized(self, width: int, height: int) -> Camera:
        """The same view at another resolution."""
        K = self.K.clone()
        # numbers, not a tensor: that would be copied to a GPU for every image
        K[..., 0, :] *= width / self.width
        K[..., 1, :] *= height / self.height
        return dataclasses.replace(self, K=K, width=width, height=height)

    def reduced(self, divisor: int) -> Camera:
        """The camera of images whose blocks of ``divisor`` squared pixels were averaged, the
        remainder cut off."""
        K = self.K.clone()
        K[..., :2, :] /= divisor
        return Camera(K, self.T_cam_world, self.width // divisor, self.height // divisor)

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The part of the image whose top-left corner is the pixel (left, top); may reach over the
        border."""
        shift = torch.zeros_like(self.K)
        shift[..., 0, 2], shift[..., 1, 2] = left, top
        return dataclasses.replace(self, K=self.K - shift, width=width, height=height)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [*b, N, 2] and depths [*b, N] in metres of world points [*b, N, 3]."""
        in_camera = transform_points(self.T_cam_world, points)
        depth = in_camera[..., 2]
        image = in_camera @ self.K.transpose(-1, -2)
        return image[..., :2] / depth[..., None], depth

    def opengl_pose(self) -> Tensor:
        """Camera-to-world matrices [*b, 4, 4] in OpenGL's convention."""
        return self.T_world_cam @ _OPENGL_FROM_OPENCV.to(self.T_cam_world)
