"""How the skin of a head turns and stretches around each vertex, expression by expression."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.head_models.sampling import face_areas
from likeness.scene.expression_caps import CAPS
from likeness.scene.transforms import matrices_to_rotvecs

_STILL = 2e-3  # of a deformation gradient: less is nothing
_STRETCHES = (0.25, 4.0)  # that are believed


def expression_turns(head: ShapedHead) -> Tensor:
    """[E, V, 9] what each expression at 1 does to the skin at rest: a rotation vector, in radians,
    and a logarithmic strain (xx, yy, zz, xy, xz, yz) that comes before it; 0 off the skin. One that
    undoes a part of another (``CAPS``) is told by what it changes on top of that.
    """
    model, shapes = head.model, head.expression_shapes()
    faces, names = model.skin_faces, model.expression_names
    rest = torch.linalg.inv(_frames(head.vertices[faces]))
    areas = face_areas(head.vertices, faces)

    def at(displacement: Tensor) -> Tensor:
        gradients = _frames((head.vertices + displacement)[faces]) @ rest
        mean = _of_vertices(gradients.flatten(1), faces, areas, len(head.vertices))
        turned = ((mean - torch.eye(3)).abs() > _STILL).flatten(1).any(-1)
        result = torch.zeros(len(mean), 9)
        result[turned] = _logarithms(mean[turned])
        return result

    allowing, turns = dict(CAPS), []
    for name, shape in zip(names, shapes, strict=True):
        if allowing.get(name) in names:
            before = shapes[names.index(allowing[name])]
            turns.append(at(before + shape) - at(before))
        else:
            turns.append(at(shape))
    return torch.stack(turns)


def _frames(corners: Tensor) -> Tensor:
    """Two edges and the unit normal of triangles [F, 3, 3], as columns."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = torch.nn.functional.normalize(torch.linalg.cross(first, second), dim=-1)
    return torch.stack([first, second, normal], -1)


def _of_vertices(values: Tensor, faces: Tensor, areas: Tensor, count: int) -> Tensor:
    """Means [V, 3, 3] over the faces around each vertex, by area, of values [F, 9] of faces."""
    total, weights = torch.zeros(count, 9), torch.zeros(count)
    for corner in faces.T:
        total.index_add_(0, corner, values * areas[:, None])
        weights.index_add_(0, corner, areas)
    identity = torch.eye(3).expand(count, 3, 3)
    mean = (total / weights.clamp_min(1e-12)[:, None]).view(count, 3, 3)
    return torch.where(weights[:, None, None] > 0, mean, identity)


def _logarithms(gradients: Tensor) -> Tensor:
    """Rotation vectors and strains [V, 9] of deformation gradients [V, 3, 3], by the polar
    decomposition."""
    left, stretches, right = torch.linalg.svd(gradients)
    flipped = torch.linalg.det(left @ right) < 0
    left[flipped, :, 2] *= -1
    strain = right.mT @ torch.diag_embed(stretches.clamp(*_STRETCHES).log()) @ right
    rows, columns = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    return torch.cat([matrices_to_rotvecs(left @ right), strain[:, rows, columns]], -1)
