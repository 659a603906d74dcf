"""The eyelids: folded away in most pictures, and all that is seen of an eye when it shuts."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.base import HeadModel, ShapedHead
from likeness.seeding.unprojection.patches import Patches, flat_cloud
from likeness.seeding.unprojection.surface import OPACITY

_MOVED_M = 1.5e-3  # by a blink, from which on a vertex is one of a lid
_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
# area shut over area open, from which on pixels of the open eye no longer cover a triangle
_STRETCHED = 1.3
_SPACING_M = 1.0e-3
_SPREAD = 0.65
_BEHIND_M = 3e-4


def blink_shape(model: HeadModel) -> Tensor:
    """[V, 3] metres by which shutting both eyes moves the vertices; 0 for a model that cannot."""
    columns = [
        model.expression_names.index(name) for name in _BLINKS if name in model.expression_names
    ]
    return model.expression_basis[columns].sum(0)


def lid_vertices(model: HeadModel) -> Tensor:
    """[V] bool: the skin of the lids."""
    skin = model.vertex_part == model.part_names.index("skin")
    return skin & (blink_shape(model).norm(dim=-1) > _MOVED_M)


def lids(shaped: ShapedHead, colours: Tensor, seed: int) -> Patches:
    """Small patches for what of the lids unfolds, dense enough for the shut eye. colours: [V,
    3]."""
    model, generator = shaped.model, torch.Generator().manual_seed(seed)
    faces = model.faces[
        lid_vertices(model)[model.faces].any(-1)
        & (model.face_part == model.part_names.index("skin"))
    ]
    open_, shut = (
        _areas(shaped.vertices[faces]),
        _areas((shaped.vertices + blink_shape(model))[faces]),
    )
    faces, shut = faces[shut > _STRETCHED * open_], shut[shut > _STRETCHED * open_]
    count = int(shut.sum() / _SPACING_M**2)
    if count == 0:
        faces, shut = model.faces[:1], torch.ones(1)
    drawn = torch.multinomial(shut, max(count, 1), replacement=True, generator=generator)[:count]
    u, v = torch.rand(2, count, generator=generator)
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    inside = torch.stack([1 - u - v, u, v], -1)
    vertices = faces[drawn]
    corners = (shaped.vertices + blink_shape(model))[vertices]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.nn.functional.normalize(cross, dim=-1)
    points = (shaped.vertices[vertices] * inside[..., None]).sum(1) - _BEHIND_M * normals
    sizes = torch.full((count, 2), _SPREAD * _SPACING_M)
    rgb = (colours[vertices] * inside[..., None]).sum(1)
    cloud = flat_cloud(
        points, normals, torch.zeros_like(normals), sizes, rgb, torch.full((count,), OPACITY)
    )
    return Patches(cloud, vertices, inside, torch.ones(count))


def _areas(corners: Tensor) -> Tensor:
    return (
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(
            dim=-1
        )
        / 2
    )
