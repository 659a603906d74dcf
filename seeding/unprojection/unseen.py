"""The part of the head model's surface that no picture shows."""

from __future__ import annotations

import torch

from likeness.head_models.base import ShapedHead
from likeness.seeding.unprojection.colours import VertexColours
from likeness.seeding.unprojection.patches import Patches, flat_cloud
from likeness.seeding.unprojection.surface import OPACITY, View

_DENSITY = {
    "skin": 1.0,
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
_BEHIND_M = 0.004  # under the patches that show the pictures, so that it never hides them


def unseen(
    views: list[View],
    front: View,
    shaped: ShapedHead,
    colours: VertexColours,
    count: int,
    seed: int,
) -> Patches:
    """About ``count`` patches, a little below the surface, all over the mesh but where a picture
    shows background.

    They lie under what is seen, too, thinly: patches part when the face moves, and skin is behind
        them, not nothing.
    """
    model, generator = shaped.model, torch.Generator().manual_seed(seed)
    corners = shaped.vertices[model.faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    density = torch.tensor([_DENSITY.get(name, _OTHER_DENSITY) for name in model.part_names])[
        model.face_part.long()
    ]
    shown = (torch.from_numpy(colours.weight)[model.faces] > 0).float().mean(-1)
    skin = model.face_part == model.part_names.index("skin")
    density = density * torch.where(skin, 1 - 0.6 * shown, (shown < 0.99).float())
    # Between evenly over the surface and evenly over the triangles: these are small where patches
    # must be, too.
    areas = cross.norm(dim=-1) / 2
    weights = areas.sqrt() * density
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    inside = torch.stack([1 - u - v, u, v], -1)
    vertices = model.faces[drawn]
    normals = torch.nn.functional.normalize(cross[drawn], dim=-1)
    points = (corners[drawn] * inside[..., None]).sum(1) - _BEHIND_M * (shown * skin)[
        drawn, None
    ] * normals
    room = torch.full((count,), torch.inf)
    for view in views:
        posed = (torch.from_numpy(view.posed)[vertices] * inside[..., None]).sum(1)
        room = torch.minimum(room, view.room(posed))
    # A person who is cut off by the picture's lower border ends there on all sides.
    kept = (room > 0) & ~front.below(
        (torch.from_numpy(front.posed)[vertices] * inside[..., None]).sum(1)
    )
    rgb = (torch.from_numpy(colours.rgb)[vertices] * inside[..., None]).sum(1)
    spacing = (areas * weights.sum() / (count * weights.clamp_min(1e-12)))[drawn].sqrt()
    largest = torch.where(skin, _MAX_M[0], _MAX_M[1])[drawn]
    sizes = torch.minimum(_SPREAD * spacing, torch.minimum(largest, room.clamp_min(_MIN_M)))
    # None may hang over the outline: what is too large for its place goes further in.
    points = points - (sizes - room).clamp_min(0)[:, None] * normals
    sizes = sizes[:, None].repeat(1, 2)
    along = torch.zeros_like(normals)
    cloud = flat_cloud(points, normals, along, sizes, rgb, torch.full((count,), OPACITY))
    kept_cloud = cloud.map(lambda tensor: tensor[kept])
    return Patches(kept_cloud, vertices[kept], inside[kept], torch.ones(int(kept.sum())))
