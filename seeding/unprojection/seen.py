"""The part of the head model's surface that images show."""

from __future__ import annotations

import numpy as np
import torch

from likeness.head_models.base import ShapedHead
from likeness.head_models.sampling import interpolate
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.cells import cell_means, divide
from likeness.seeding.unprojection.patches import SPREAD, flat_cloud
from likeness.seeding.vertex_colours import VertexColours

_MAX_STRETCH = 3.0


def seen_seeds(
    views: list[SourceView],
    head: ShapedHead,
    shapes: torch.Tensor,
    colours: VertexColours,
    count: int,
) -> Seeds:
    """About ``count`` patches, each from the image that sees its place best. shapes: of the rig."""
    masks = []
    for number, view in enumerate(views):
        mine = (colours.best == number).astype(np.float32)[:, None]
        best = view.raster.interpolate(mine, view.faces)[..., 0] >= 0.5
        masks.append(view.usable & best)
    total = max(sum(int(mask.sum()) for mask in masks), 1)
    return Seeds.cat(
        [
            _of_view(view, mask, head, shapes, round(count * mask.sum() / total))
            for view, mask in zip(views, masks)
        ]
    )


def _of_view(
    view: SourceView, mask: np.ndarray, head: ShapedHead, shapes: torch.Tensor, count: int
) -> Seeds:
    corners, sides = divide(np.concatenate([view.rgb, 0.3 * view.pixel_normals], -1), mask, count)
    # the pixel at (for even sides: next to) the cell's middle
    x, y = (corners + (sides[:, None] - 1) // 2).T
    triangle = view.raster.face_index[y, x]
    on_mesh = triangle >= 0
    x, y, sides, triangle = x[on_mesh], y[on_mesh], sides[on_mesh], triangle[on_mesh]
    weights = torch.from_numpy(view.raster.barycentrics[y, x])
    rig = RigBinding(shapes, torch.from_numpy(view.faces[triangle]).long(), weights)
    depth = torch.from_numpy(view.raster.depth[y, x])
    spacing = torch.from_numpy(sides).float() * depth / view.camera.K[0, 0]
    stretch = (1 / torch.from_numpy(view.cosines[y, x]).float()).clamp(1, _MAX_STRETCH)
    points = interpolate(head.vertices, rig.vertices, rig.weights)
    cloud = flat_cloud(
        points,
        torch.from_numpy(view.pixel_normals[y, x]),
        SPREAD * torch.stack([spacing * stretch, spacing], -1),
        torch.from_numpy(cell_means(view.rgb, x, y, sides)),
        along=torch.from_numpy(view.rays[y, x]).float(),
    )
    return Seeds(cloud, head.head_weights(points), rig)
