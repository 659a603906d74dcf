"""Seeds on the surface of the fitted head model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.sampling import face_areas, interpolate, sample_triangles
from likeness.ops import harmonics
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.source_view import SourceView
from likeness.seeding.vertex_colours import vertex_colours

# The inside of the mouth is small and matters: it is sampled more densely than the skin.
_DENSITY = {
    "skin": 1.0,
    "eye_left": 2.0,
    "eye_right": 2.0,
    "tongue": 1.5,
    "teeth_upper": 3.0,
    "teeth_lower": 3.0,
}
_OTHER_DENSITY = 0.4
_HEAD_AREA_M2 = 0.13


def mesh_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """``num_gaussians`` seeds on the fitted head model's surface (HeadGaS, section 3.4).

    ``config.frames`` of the training frames, evenly spread, give the colours. What is hidden in all
    of them (a mouth's inside that never opens) has the colour that such places have, not that of
    what is before it.
    """
    head, generator = shaped_head(capture), torch.Generator().manual_seed(seed)
    model, count = head.model, config.num_gaussians
    density = model.values_by_part(_DENSITY, _OTHER_DENSITY)
    weights = face_areas(head.vertices, model.faces) * density
    triangles, barycentrics = sample_triangles(weights, count, generator)
    rig = RigBinding(head.expression_shapes(), model.faces[triangles], barycentrics)
    points = interpolate(head.vertices, rig.vertices, rig.weights)
    views = [
        SourceView.of(capture.frames[index], frames.get(index), head)
        for index in evenly_spread(capture.train, config.frames)
    ]
    of_vertices = torch.from_numpy(vertex_colours(head, views).rgb)
    colours = interpolate(of_vertices, rig.vertices, rig.weights)
    sizes = torch.full((count,), 0.6 * (_HEAD_AREA_M2 / count) ** 0.5)
    return Seeds(
        round_cloud(points, colours, sizes, config.opacity), head.head_weights(points), rig
    )


def round_cloud(points: Tensor, colours: Tensor, sizes: Tensor, opacity: float) -> GaussianCloud:
    """Round Gaussians at points [N, 3] with colours [N, 3] and standard deviations [N]."""
    count = len(points)
    return GaussianCloud(
        means=points.float(),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=sizes[:, None].repeat(1, 3).float(),
        opacities=torch.full((count,), opacity),
        sh=harmonics.from_rgb(colours.float())[:, None],
    )


def evenly_spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, evenly spread."""
    positions = torch.linspace(0, len(indices) - 1, min(count, len(indices))).round().long()
    return [indices[position] for position in positions.tolist()]
