"""The part of the head model's surface that no image shows."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.head_models.sampling import face_areas, face_normals, interpolate, sample_triangles
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.patches import flat_cloud
from likeness.seeding.vertex_colours import VertexColours

_DENSITY = {
    "eye_left": 4.0,
    "eye_right": 4.0,
    "tongue": 2.0,
    "teeth_upper": 3.0,
    "teeth_lower": 3.0,
}
_OTHER_DENSITY = 1.0
_SPREAD = 0.75  # deviation over spacing: random points need more than a grid
_MAX_M = (0.006, 0.0025)  # deviation on skin and inside: nothing inside may reach through the skin
_MIN_M = 0.0035
_BEHIND_M = 0.004  # under the patches that show the images, so that it never hides them


def unseen_seeds(
    views: list[SourceView],
    front: SourceView,
    head: ShapedHead,
    shapes: Tensor,
    colours: VertexColours,
    count: int,
    generator: torch.Generator,
) -> Seeds:
    """About ``count`` patches, a little below the surface, all over the mesh but where an image
    shows background. shapes: of the rig.

    They lie under what is seen, too, thinly: patches part when the face moves, and then skin is
    behind them.
    """
    model = head.model
    skin = model.face_part == model.part_names.index("skin")
    seen = (torch.from_numpy(colours.weight)[model.faces] > 0).float().mean(-1)
    density = model.values_by_part(_DENSITY, _OTHER_DENSITY)
    density = density * torch.where(skin, 1 - 0.6 * seen, (seen < 0.99).float())
    # Between evenly over the surface and evenly over the triangles: these are small where patches
    # must be, too.
    areas = face_areas(head.vertices, model.faces)
    weights = areas.sqrt() * density
    triangles, barycentrics = sample_triangles(weights, count, generator)
    rig = RigBinding(shapes, model.faces[triangles], barycentrics)

    def at_points(field: Tensor) -> Tensor:
        return interpolate(field, rig.vertices, rig.weights)

    normals = torch.nn.functional.normalize(face_normals(head.vertices, model.faces), dim=-1)
    normals = normals[triangles]
    points = at_points(head.vertices) - _BEHIND_M * (seen * skin)[triangles, None] * normals
    room = torch.full((count,), torch.inf)
    for view in views:
        room = torch.minimum(room, view.room(at_points(view.posed)))
    spacing = (areas * weights.sum() / (count * weights.clamp_min(1e-12)))[triangles].sqrt()
    largest = torch.where(skin, *_MAX_M)[triangles]
    sizes = torch.minimum(_SPREAD * spacing, torch.minimum(largest, room.clamp_min(_MIN_M)))
    # None may hang over the outline: what is too large for its place goes further in.
    points = points - (sizes - room).clamp_min(0)[:, None] * normals
    rgb = at_points(torch.from_numpy(colours.rgb))
    cloud = flat_cloud(points, normals, sizes[:, None].repeat(1, 2), rgb)
    # A person who is cut off by the image's lower border ends there on all sides.
    inside = (room > 0) & ~front.below(at_points(front.posed))
    return Seeds(cloud, head.head_weights(points), rig).select(inside)
