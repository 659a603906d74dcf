"""One image of the subject with the tracked head in it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.renderers.mesh import Raster, rasterize_camera, vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.capture import TrackedFrame

_MIN_FACING = 0.2  # cosine of surface and ray below which a pixel says little of the surface
_CERTAIN = 0.9  # matte from which on a pixel is all person
_PERSON = 0.5  # matte


@dataclasses.dataclass(frozen=True)
class SourceView:
    """An image and the posed head in it. camera: its world is the head frame. rgb [H, W, 3], matte
    [H, W].

    posed: [V, 3] vertices in the head frame, normals [V, 3], faces [F, 3]. raster: which of them
        are seen.
    """

    camera: Camera
    rgb: np.ndarray
    matte: np.ndarray
    posed: Tensor
    normals: np.ndarray
    faces: np.ndarray
    raster: Raster
    T_head_body: Tensor = dataclasses.field(default_factory=lambda: torch.eye(4))

    @classmethod
    def of(
        cls, frame: TrackedFrame, image: tuple[Tensor, Tensor], shaped: ShapedHead
    ) -> SourceView:
        """A tracked frame with its colour and matte, as a FrameStore gives them."""
        camera = frame.camera.in_frame(frame.state.T_world_head)
        posed, faces = shaped.posed(frame.state).vertices, shaped.model.faces
        colour, matte = (tensor.cpu().numpy() for tensor in image)
        return cls(
            camera,
            rgb=colour,
            matte=matte[..., 0],
            posed=posed,
            normals=vertex_normals(posed, faces),
            faces=faces.numpy(),
            raster=rasterize_camera(posed, faces, camera),
            T_head_body=frame.state.T_head_body,
        )

    def continued(self, metres: float) -> SourceView:
        """The same with the image continued beyond its borders by what lies at them, as far as
        ``metres`` at the depth of the head: a person who is cut off there goes on."""
        camera = self.camera
        pad = max(round(metres * float(camera.K[0, 0] / camera.center.norm())), 1)
        wider = camera.cropped(-pad, -pad, camera.width + 2 * pad, camera.height + 2 * pad)
        sides = (pad, pad), (pad, pad)
        return dataclasses.replace(
            self,
            camera=wider,
            rgb=np.pad(self.rgb, (*sides, (0, 0)), mode="edge"),
            matte=np.pad(self.matte, sides, mode="edge"),
            raster=rasterize_camera(self.posed, torch.from_numpy(self.faces), wider),
        )

    def adjusted(self, gain: np.ndarray) -> SourceView:
        """The same with colours times ``gain`` [3]."""
        return dataclasses.replace(self, rgb=(self.rgb * gain).clip(0, 1).astype(np.float32))

    @property
    def yaw(self) -> float:
        """Angle by which the head looks past the camera, to either side, in radians."""
        x, _, z = self.camera.center.tolist()
        return abs(np.arctan2(x, z))

    @functools.cached_property
    def rays(self) -> np.ndarray:
        """[H, W, 3] unit vectors from the camera through the pixels, in the head frame."""
        rows, columns = np.mgrid[: self.camera.height, : self.camera.width].astype(np.float32) + 0.5
        pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
        T = self.camera.T_cam_world.numpy()
        rays = pixels @ np.linalg.inv(self.camera.K.numpy()).T @ T[:3, :3]
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    @functools.cached_property
    def pixel_normals(self) -> np.ndarray:
        """Unit normals [H, W, 3] of the mesh at the pixels; 0 beside it."""
        normals = self.raster.interpolate(self.normals, self.faces)
        return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)

    @functools.cached_property
    def cosines(self) -> np.ndarray:
        """[H, W] of ``pixel_normals`` and the rays back to the camera; 0 beside the mesh."""
        return np.where(self.raster.mask, -(self.pixel_normals * self.rays).sum(-1), 0)

    @functools.cached_property
    def usable(self) -> np.ndarray:
        """[H, W] bool: pixels that show the mesh, surely and not too much from the side."""
        return (self.matte > _CERTAIN) & (self.cosines > _MIN_FACING)

    @functools.cached_property
    def depth_inside(self) -> np.ndarray:
        """[H, W] pixels to the nearest background; a person continues beyond the image."""
        from scipy.ndimage import distance_transform_edt

        person = np.pad(self.matte > _PERSON, 1, mode="edge")
        distance: Any = distance_transform_edt(person)
        return distance[1:-1, 1:-1].astype(np.float32)

    def room(self, points: Tensor) -> Tensor:
        """[N] metres to the outline of the matte where points [N, 3] of the head frame fall in the
        image: 0 on background, infinite outside of the image."""
        pixels, depth = self.camera.project(points)
        x, y = pixels.floor().long().unbind(-1)
        width, height = self.camera.width, self.camera.height
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height) & (depth > 0)
        room = torch.from_numpy(self.depth_inside)[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        return torch.where(inside, room * depth / self.camera.K[0, 0], torch.full((), torch.inf))

    def below(self, points: Tensor) -> Tensor:
        """[N] bool: points [N, 3] of the head frame that lie below the image's lower border."""
        return self.camera.project(points)[0][:, 1] > self.camera.height
