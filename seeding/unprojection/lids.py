"""The eyelids: folded away in most images, and all that is seen of an eye when it shuts."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.head_models.regions import blink_shape, lid_vertices
from likeness.head_models.sampling import face_areas, face_normals, interpolate, sample_triangles
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.unprojection.patches import flat_cloud

# area shut over area open, from which on pixels of the open eye no longer cover a triangle
_STRETCHED = 1.3
_SPACING_M = 1.0e-3
_SPREAD = 0.65
_BEHIND_M = 3e-4


def lid_seeds(
    head: ShapedHead, shapes: Tensor, colours: Tensor, generator: torch.Generator
) -> Seeds:
    """Small patches for what of the lids unfolds, dense enough for the shut eye. shapes: of the
    rig. colours: [V, 3]."""
    model = head.model
    shut = head.vertices + blink_shape(model)
    skin = model.face_part == model.part_names.index("skin")
    faces = model.faces[skin & lid_vertices(model)[model.faces].any(-1)]
    areas = face_areas(shut, faces)
    stretched = areas > _STRETCHED * face_areas(head.vertices, faces)
    faces, areas = faces[stretched], areas[stretched]
    triangles, barycentrics = sample_triangles(areas, int(areas.sum() / _SPACING_M**2), generator)
    rig = RigBinding(shapes, faces[triangles], barycentrics)
    normals = torch.nn.functional.normalize(face_normals(shut, rig.vertices), dim=-1)
    points = interpolate(head.vertices, rig.vertices, rig.weights) - _BEHIND_M * normals
    sizes = torch.full((len(points), 2), _SPREAD * _SPACING_M)
    cloud = flat_cloud(points, normals, sizes, interpolate(colours, rig.vertices, rig.weights))
    return Seeds(cloud, head.head_weights(points), rig)
