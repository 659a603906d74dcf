"""What the network is told of one picture: its pixels, and where the tracked head lies in it."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.one_shot.surface import Surface
from likeness.renderers.mesh import rasterize_camera, vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import transform_points
from likeness.seeding.mesh import chin_of, head_weights

_DEPTH_TOLERANCE_M = 0.006
GREY = 0.5  # behind the person, in what the network sees


@dataclasses.dataclass(frozen=True)
class Person:
    """A tracked identity at rest: vertices [V, 3], unit normals [V, 3], weights of the head [V],
    shapes [E, V, 3] and the tip of the chin [3]."""

    vertices: Tensor
    normals: Tensor
    head_weights: Tensor
    shapes: Tensor
    chin: Tensor

    @classmethod
    def of(cls, head: ShapedHead, shapes: Tensor) -> Person:
        """shapes: of ``likeness.seeding.shapes.expression_shapes``."""
        vertices = head.vertices.float()
        normals = torch.from_numpy(vertex_normals(vertices, head.model.faces))
        chin = chin_of(head.model, vertices)
        return cls(vertices, normals, head_weights(vertices, chin), shapes, chin)

    def moved(self, expression: Tensor) -> Tensor:
        """Displacements [V, 3] of an expression [E]."""
        return (expression @ self.shapes.flatten(1)).reshape(-1, 3)

    def posed(self, state: HeadState) -> Tensor:
        """Vertices [V, 3] in the head frame at one state: expressions, then the two frames, as
        avatars move."""
        vertices = self.vertices + self.moved(state.expression)
        body = transform_points(state.T_head_body, vertices)
        return body + self.head_weights[:, None] * (vertices - body)


@dataclasses.dataclass(frozen=True)
class View:
    """One picture for the network; S pixels a side, N queries, C lifted cells. A batch [B, ...] by
    ``stack`` holds a list of B tensors for each field of the cells, which are as many as a picture
    has.

    picture: [4, S, S] colour on grey, and matte. mesh: [4, S, S] coordinates of the mean person's
        surface in decimetres where the mesh is seen, and whether it is. own, twin: [N, 5] of each
        query and of its mirrored
        twin: place in [-1, 1]² (x right, y down), seen (0 or 1), cosine of normal and view, inside
            the picture.
    points, normals: [N, 3] at rest. cells: [C, 2] places of cells in [-1, 1]²; cell_points: [C, 3]
        and cell_rays: [C, 3] where they pierce the plane through the skull's centre, in the head
        frame, and metres of that frame per metre of depth; cell_sizes: [C] metres of half a cell;
        cell_heads: [C] logits of how much they belong to the head, by their height; cell_pixels:
        [C, 4] their mean colour (straight) and matte.
    T_head_body: [4, 4] of the picture.
    """

    picture: Tensor
    mesh: Tensor
    own: Tensor
    twin: Tensor
    points: Tensor
    normals: Tensor
    cells: Tensor
    cell_points: Tensor
    cell_rays: Tensor
    cell_sizes: Tensor
    cell_heads: Tensor
    cell_pixels: Tensor
    T_head_body: Tensor

    @classmethod
    def stack(cls, views: list[View]) -> View:
        """A batch of single ones with the same queries."""
        columns = {
            f.name: [getattr(view, f.name) for view in views] for f in dataclasses.fields(cls)
        }
        return cls(**{n: c if n.startswith("cell") else torch.stack(c) for n, c in columns.items()})

    def to(self, device: torch.device | str) -> View:
        """On another device, single or a batch."""

        def moved(value):
            return (
                [item.to(device) for item in value] if isinstance(value, list) else value.to(device)
            )

        return View(**{f.name: moved(getattr(self, f.name)) for f in dataclasses.fields(self)})


def make_view(
    surface: Surface,
    person: Person,
    colour: Tensor,
    matte: Tensor,
    camera: Camera,
    state: HeadState,
    size: int,
    grid: int,
    region: str,
) -> View:
    """colour: [H, W, 3] straight; matte: [H, W, 1]; camera and state of that picture (no batches).

    size: side S of what the network sees. grid: cells a side, 0 for none; region: as LiftingConfig
        says.
    """
    pixels = _resized(torch.cat([colour * matte, matte], -1), size)
    picture = torch.cat([pixels[..., :3] + GREY * (1 - pixels[..., 3:]), pixels[..., 3:]], -1)
    camera = camera.resized(size, size).in_frame(state.T_world_head)
    vertices = person.posed(state)
    raster = rasterize_camera(vertices, surface.model.faces, camera)
    normals = torch.from_numpy(vertex_normals(vertices, surface.model.faces))
    depth = torch.from_numpy(raster.depth)
    template = raster.interpolate(surface.model.template.numpy() * 10, surface.model.faces.numpy())
    mesh = torch.from_numpy(np.concatenate([template, raster.mask[..., None]], -1)).float()
    cells, shown = _cells(pixels, torch.from_numpy(raster.mask), camera, grid, region)
    return View(
        picture.movedim(-1, 0).contiguous(),
        mesh.movedim(-1, 0).contiguous(),
        _seen(surface.of(vertices), surface.of(normals), camera, depth),
        _seen(surface.twins(vertices), surface.twins(normals), camera, depth),
        surface.of(person.vertices),
        torch.nn.functional.normalize(surface.of(person.normals), dim=-1),
        *cells,
        torch.logit(head_weights(cells[1], person.chin).clamp(0.03, 0.97)),
        shown,
        state.T_head_body,
    )


def _resized(image: Tensor, size: int) -> Tensor:
    """[H, W, C] to [size, size, C]; averages where it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    channels = image.movedim(-1, 0)[None]
    mode = (
        {"mode": "area"} if size <= image.shape[0] else {"mode": "bilinear", "align_corners": False}
    )
    return torch.nn.functional.interpolate(channels, (size, size), **mode)[0].movedim(0, -1)


def _seen(points: Tensor, normals: Tensor, camera: Camera, depth_map: Tensor) -> Tensor:
    """[N, 5]; see View."""
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
    pixels: Tensor, covered: Tensor, camera: Camera, grid: int, region: str
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Places, points, rays and sizes of the cells to lift, and their mean pixels; of premultiplied
    ones [S, S, 4]."""
    if not grid:
        return (
            torch.zeros(0, 2),
            torch.zeros(0, 3),
            torch.zeros(0, 3),
            torch.zeros(0),
        ), torch.zeros(0, 4)
    pool = torch.nn.functional.adaptive_avg_pool2d
    means = pool(pixels.movedim(-1, 0), grid).movedim(0, -1)
    free = means[..., 3] > 0.25
    if region == "beside":
        free &= pool(covered[None].float(), grid)[0] < 0.7
    rows, columns = free.nonzero(as_tuple=True)
    shown = means[rows, columns]
    shown = torch.cat([shown[:, :3] / shown[:, 3:], shown[:, 3:]], -1)
    places = (torch.stack([columns, rows], -1) + 0.5) / grid
    pixels = places * torch.tensor([camera.width, camera.height])
    rays = torch.cat([pixels, torch.ones(len(pixels), 1)], -1) @ torch.linalg.inv(camera.K).T
    rotation = camera.T_cam_world[:3, :3].T  # to the head frame
    depth = transform_points(camera.T_cam_world, _SKULL_CENTRE[None])[0, 2]
    rays = rays @ rotation.T
    size = depth / camera.K[0, 0] * camera.width / grid / 2
    return (
        places * 2 - 1,
        camera.center + rays * depth,
        rays,
        size.expand(len(places)).contiguous(),
    ), shown
