"""What the network is told of one image: its pixels, and where the tracked head lies in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.one_shot.config import OneShotConfig, UnprojectionConfig
from likeness.one_shot.queries import QueryPoints
from likeness.renderers.mesh import rasterize_camera, vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState
from likeness.scene.records import TensorRecord
from likeness.scene.transforms import transform_points

_DEPTH_TOLERANCE_M = 0.006
GREY = 0.5  # behind the person, in what the network sees


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """A tracked image: straight colour [H, W, 3], matte [H, W, 1], its camera and state."""

    colour: Tensor
    matte: Tensor
    camera: Camera
    state: HeadState


@dataclasses.dataclass(frozen=True)
class SourcePerson:
    """A tracked identity at rest: the head, unit normals [V, 3], weights of the head [V] and shapes
    [E, V, 3] of its vertices."""

    head: ShapedHead
    normals: Tensor
    head_weights: Tensor
    shapes: Tensor

    @classmethod
    def of(cls, head: ShapedHead) -> SourcePerson:
        normals = torch.from_numpy(vertex_normals(head.vertices, head.model.faces))
        return cls(head, normals, head.head_weights(head.vertices), head.expression_shapes())

    def query_logits(self, queries: QueryPoints) -> Tensor:
        """How much each query [N] belongs to the head, by its place, as a logit."""
        return torch.logit(queries.of(self.head_weights[:, None])[:, 0].clamp(0.02, 0.98))

    def moved(self, expression: Tensor) -> Tensor:
        """Displacements [V, 3] of an expression [E]."""
        return (expression @ self.shapes.flatten(1)).reshape(-1, 3)

    def posed(self, state: HeadState) -> Tensor:
        """Vertices [V, 3] in the head frame at one state: expressions, then the two frames, as
        avatars move."""
        vertices = self.head.vertices + self.moved(state.expression)
        body = transform_points(state.T_head_body, vertices)
        return body + self.head_weights[:, None] * (vertices - body)


@dataclasses.dataclass(frozen=True)
class Cells(TensorRecord):
    """C cells of an image that are unprojected.

    places: [C, 2] in [-1, 1]². points: [C, 3] and rays: [C, 3] where they pierce the plane through
    the skull's centre, in the head frame, and metres of that frame per metre of depth. sizes: [C]
    metres of half a cell. head_logits: [C] how much they belong to the head, by their height.
    pixels: [C, 4] their mean colour (straight) and matte.
    """

    places: Tensor
    points: Tensor
    rays: Tensor
    sizes: Tensor
    head_logits: Tensor
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.places)


@dataclasses.dataclass(frozen=True)
class NetworkInputs(TensorRecord):
    """One image for the network, or by ``stack`` a batch [B, ...]; S pixels a side, N queries.

    image: [4, S, S] colour on grey, and matte. mesh: [4, S, S] coordinates of the mean person's
        surface in decimetres where the mesh is seen, and whether it is.
    own, twin: [N, 5] of each query and of its mirrored twin: place in [-1, 1]² (x right, y down),
        seen (0 or 1), cosine of normal and view, inside the image. points, normals: [N, 3] at rest.
    T_head_body: [4, 4] of the image. cells: of each image.
    """

    image: Tensor
    mesh: Tensor
    own: Tensor
    twin: Tensor
    points: Tensor
    normals: Tensor
    T_head_body: Tensor
    cells: tuple[Cells, ...]

    @classmethod
    def stack(cls, items: Sequence[NetworkInputs]) -> NetworkInputs:
        """A batch of single ones with the same queries."""
        cells = tuple(cells for item in items for cells in item.cells)
        return dataclasses.replace(cls._joined(torch.stack, items), cells=cells)

    def to(self, device: torch.device | str) -> NetworkInputs:
        """On another device, single or a batch."""
        cells = tuple(cells.to(device) for cells in self.cells)
        return dataclasses.replace(self.map(lambda tensor: tensor.to(device)), cells=cells)


def network_inputs(
    queries: QueryPoints, person: SourcePerson, source: SourceImage, config: OneShotConfig
) -> NetworkInputs:
    """What the network is told of one image of a person."""
    size, state, faces = config.picture_size, source.state, queries.model.faces
    pixels = resized(torch.cat([source.colour * source.matte, source.matte], -1), size)
    image = torch.cat([pixels[..., :3] + GREY * (1 - pixels[..., 3:]), pixels[..., 3:]], -1)
    camera = source.camera.resized(size, size).in_frame(state.T_world_head)
    vertices = person.posed(state)
    raster = rasterize_camera(vertices, faces, camera)
    normals = torch.from_numpy(vertex_normals(vertices, faces))
    depth = torch.from_numpy(raster.depth)
    template = raster.interpolate(queries.model.template.numpy() * 10, faces.numpy())
    mesh = torch.from_numpy(np.concatenate([template, raster.mask[..., None]], -1)).float()
    cells = _cells(pixels, torch.from_numpy(raster.mask), camera, person.head, config.lifting)
    return NetworkInputs(
        image=image.movedim(-1, 0).contiguous(),
        mesh=mesh.movedim(-1, 0).contiguous(),
        own=_seen(queries.of(vertices), queries.of(normals), camera, depth),
        twin=_seen(queries.twins(vertices), queries.twins(normals), camera, depth),
        points=queries.of(person.head.vertices),
        normals=torch.nn.functional.normalize(queries.of(person.normals), dim=-1),
        T_head_body=state.T_head_body,
        cells=(cells,),
    )


def resized(image: Tensor, size: int) -> Tensor:
    """[H, W, C] to [size, size, C]; averages where it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    channels = image.movedim(-1, 0)[None]
    mode = "area" if size <= image.shape[0] else "bilinear"
    return torch.nn.functional.interpolate(channels, (size, size), mode=mode)[0].movedim(0, -1)


def _seen(points: Tensor, normals: Tensor, camera: Camera, depth_map: Tensor) -> Tensor:
    """[N, 5]; see NetworkInputs."""
    pixels, depth = camera.project(points)
    places = pixels / torch.tensor([camera.width, camera.height]) * 2 - 1
    inside = (places.abs().amax(-1) <= 1) & (depth > 0)
    column, row = pixels.long().clamp(0, camera.width - 1).unbind(-1)
    seen = inside & (depth <= depth_map[row, column] + _DEPTH_TOLERANCE_M)
    toward = torch.nn.functional.normalize(camera.center - points, dim=-1)
    facing = (torch.nn.functional.normalize(normals, dim=-1) * toward).sum(-1)
    extra = torch.stack([seen.float(), facing, inside.float()], -1)
    return torch.cat([places.clamp(-1.5, 1.5), extra], -1)


_SKULL_CENTRE = torch.tensor([0.0, 0.0, -0.09])  # metres, head frame


def _cells(
    pixels: Tensor, covered: Tensor, camera: Camera, head: ShapedHead, config: UnprojectionConfig
) -> Cells:
    """The cells to unproject of premultiplied pixels [S, S, 4], of which the mesh covers some."""
    pool, grid = torch.nn.functional.adaptive_avg_pool2d, config.grid
    means = pool(pixels.movedim(-1, 0), grid).movedim(0, -1)
    free = means[..., 3] > 0.25 if config.enabled else torch.zeros(grid, grid, dtype=torch.bool)
    if config.region == "beside":
        free &= pool(covered[None].float(), grid)[0] < 0.7
    rows, columns = free.nonzero(as_tuple=True)
    cell_pixels = means[rows, columns]
    cell_pixels = torch.cat([cell_pixels[:, :3] / cell_pixels[:, 3:], cell_pixels[:, 3:]], -1)
    places = (torch.stack([columns, rows], -1) + 0.5) / grid
    centres = places * torch.tensor([camera.width, camera.height])
    rays = torch.cat([centres, torch.ones(len(centres), 1)], -1) @ torch.linalg.inv(camera.K).T
    depth = transform_points(camera.T_cam_world, _SKULL_CENTRE[None])[0, 2]
    rays = rays @ camera.T_cam_world[:3, :3]  # in the head frame
    size = depth / camera.K[0, 0] * camera.width / grid / 2
    points = camera.center + rays * depth
    return Cells(
        places=places * 2 - 1,
        points=points,
        rays=rays,
        sizes=size.expand(len(places)).contiguous(),
        head_logits=torch.logit(head.head_weights(points).clamp(0.03, 0.97)),
        pixels=cell_pixels,
    )
