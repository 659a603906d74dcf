"""What pictures show of the head model's surface."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.renderers.mesh import Raster, rasterize_camera, vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.capture import TrackedFrame
from likeness.seeding.unprojection.cells import divide
from likeness.seeding.unprojection.colours import VertexColours
from likeness.seeding.unprojection.patches import Patches, flat_cloud

OPACITY = 0.95
SPREAD = 0.55  # deviation of a patch over the spacing of patches
MIN_FACING = 0.2  # cosine of surface and ray below which a pixel says little of the surface
SURE = 0.9  # matte from which on a pixel is all person
_PERSON = 0.5  # matte
_MAX_STRETCH = 3.0


@dataclasses.dataclass(frozen=True)
class View:
    """A picture and the posed head in it. camera: its world is the head frame. rgb [H, W, 3], matte
    [H, W].

    posed: [V, 3] vertices in the head frame, normals [V, 3]. raster: which faces are seen.
    """

    camera: Camera
    rgb: np.ndarray
    matte: np.ndarray
    posed: np.ndarray
    normals: np.ndarray
    raster: Raster

    @classmethod
    def of(cls, frame: TrackedFrame, picture: tuple[Tensor, Tensor], shaped: ShapedHead) -> View:
        camera = frame.camera.in_frame(frame.state.T_world_head)
        posed, faces = shaped.posed(frame.state).vertices, shaped.model.faces
        colour, matte = (tensor.cpu().numpy() for tensor in picture)
        raster = rasterize_camera(posed, faces, camera)
        return cls(
            camera, colour, matte[..., 0], posed.numpy(), vertex_normals(posed, faces), raster
        )

    def adjusted(self, gain: np.ndarray) -> View:
        """The same with colours times ``gain`` [3]."""
        return dataclasses.replace(self, rgb=(self.rgb * gain).clip(0, 1).astype(np.float32))

    @property
    def turned(self) -> float:
        """How far the head looks away from the camera, radians."""
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

    def facing(self, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit normals [H, W, 3] of what is seen, and their cosines [H, W] with the rays back; 0
        beside the mesh."""
        normals = self.raster.interpolate(self.normals, faces)
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
        return normals, np.where(self.raster.mask, -(normals * self.rays).sum(-1), 0)

    @functools.cached_property
    def depth_inside(self) -> np.ndarray:
        """[H, W] pixels to the nearest background; a person goes on beyond the picture."""
        from scipy.ndimage import distance_transform_edt

        return distance_transform_edt(np.pad(self.matte > _PERSON, 1, mode="edge"))[
            1:-1, 1:-1
        ].astype(np.float32)

    def room(self, points: Tensor) -> Tensor:
        """[N] metres to the outline of the matte where points [N, 3] of the head frame fall in the
        picture: 0 on background, infinite outside of the picture."""
        pixels, depth = self.camera.project(points)
        x, y = pixels.floor().long().unbind(-1)
        inside = (
            (x >= 0) & (y >= 0) & (x < self.camera.width) & (y < self.camera.height) & (depth > 0)
        )
        room = torch.from_numpy(self.depth_inside)[
            y.clamp(0, self.camera.height - 1), x.clamp(0, self.camera.width - 1)
        ]
        return torch.where(inside, room * depth / self.camera.K[0, 0], torch.full((), torch.inf))

    def below(self, points: Tensor) -> Tensor:
        """[N] bool: points [N, 3] of the head frame that lie below the picture's lower border."""
        return self.camera.project(points)[0][:, 1] > self.camera.height

    def usable(self, faces: np.ndarray) -> np.ndarray:
        """[H, W] bool: pixels that show the mesh, surely and not too much from the side."""
        return (self.matte > SURE) & (self.facing(faces)[1] > MIN_FACING)


def on_mesh(views: list[View], shaped: ShapedHead, colours: VertexColours, count: int) -> Patches:
    """About ``count`` patches, each from the picture that sees its place best."""
    faces = shaped.model.faces.numpy()
    masks = []
    for number, view in enumerate(views):
        mine = (
            view.raster.interpolate((colours.best == number).astype(np.float32)[:, None], faces)[
                ..., 0
            ]
            >= 0.5
        )
        masks.append(view.usable(faces) & mine)
    total = max(sum(int(mask.sum()) for mask in masks), 1)
    return Patches.join(
        [
            _of_view(v, mask, shaped, round(count * mask.sum() / total))
            for v, mask in zip(views, masks)
        ]
    )


def _of_view(view: View, mask: np.ndarray, shaped: ShapedHead, count: int) -> Patches:
    faces = shaped.model.faces.numpy()
    normals, cosine = view.facing(faces)
    busy = np.concatenate([view.rgb, 0.3 * normals], -1)
    corners, sides = divide(busy, mask, count)
    # the pixel at (for even sides: next to) the cell's middle
    x, y = (corners + (sides[:, None] - 1) // 2).T
    triangle = view.raster.face_index[y, x]
    keep = triangle >= 0
    x, y, sides, triangle = x[keep], y[keep], sides[keep], triangle[keep]
    weights = torch.from_numpy(view.raster.barycentrics[y, x])
    vertices = torch.from_numpy(faces[triangle]).long()
    points = (shaped.vertices[vertices] * weights[..., None]).sum(1)
    colour = cell_means(view.rgb, x, y, sides)
    depth = torch.from_numpy(view.raster.depth[y, x])
    spacing = torch.from_numpy(sides).float() * depth / view.camera.K[0, 0]
    stretch = (1 / torch.from_numpy(cosine[y, x]).float()).clamp(1, _MAX_STRETCH)
    sizes = SPREAD * torch.stack([spacing * stretch, spacing], -1)
    cloud = flat_cloud(
        points,
        torch.from_numpy(normals[y, x]),
        torch.from_numpy(view.rays[y, x]).float(),
        sizes,
        torch.from_numpy(colour),
        torch.full((len(x),), OPACITY),
    )
    return Patches(cloud, vertices, weights, torch.ones(len(x)))


def cell_means(picture: np.ndarray, x: np.ndarray, y: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Mean colours [N, 3] of the cells whose middle pixels are given."""
    import cv2

    out = np.empty((len(x), 3), np.float32)
    for side in np.unique(sides):
        chosen = sides == side
        back = (side - 1) // 2
        means = cv2.boxFilter(picture, -1, (int(side), int(side)), anchor=(int(back), int(back)))
        out[chosen] = means[y[chosen], x[chosen]]
    return out
