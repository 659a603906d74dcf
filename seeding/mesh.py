"""Points on the surface of the fitted head model."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.ops import harmonics as spherical_harmonics
from likeness.preprocess.landmarks import CHIN
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import RigBinding
from likeness.seeding.shapes import expression_shapes

# The inside of the mouth is small and matters: it is sampled more densely than the skin.
_PART_DENSITY = {
    "skin": 1.0,
    "eye_left": 2.0,
    "eye_right": 2.0,
    "tongue": 1.5,
    "teeth_upper": 3.0,
    "teeth_lower": 3.0,
}
_OTHER_DENSITY = 0.4
_NECK_BLEND_M = 0.012


def seed_cloud(points: Tensor, colours: Tensor, sizes: Tensor, opacity: float) -> GaussianCloud:
    """Round Gaussians at points [N, 3] with colours [N, 3] and standard deviations [N]."""
    count = len(points)
    return GaussianCloud(
        means=points.float(),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=sizes[:, None].repeat(1, 3).float(),
        opacities=torch.full((count,), opacity),
        sh=spherical_harmonics.from_rgb(colours.float())[:, None],
    )


def head_weights(points: Tensor, chin: Tensor) -> Tensor:
    """1 above the chin, 0 below the neck, soft between; [N]."""
    # The line from the chin to the nape rises backwards: what is far behind the chin is head a
    # little lower.
    height = points[:, 1] - (chin[1] - 0.03)
    return torch.sigmoid(height / _NECK_BLEND_M)


def sample_surface(
    capture: Capture, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, RigBinding]:
    """Points [N, 3] drawn over the rest mesh, the tip of the chin [3], and the ties."""
    model = HEAD_MODELS[capture.head_model]()
    shaped = model.shaped(capture.identity)
    vertices, faces = shaped.vertices, model.faces
    corners = vertices[faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = cross.norm(dim=-1) / 2
    density = torch.tensor([_PART_DENSITY.get(name, _OTHER_DENSITY) for name in model.part_names])
    weights = areas * density[model.face_part.long()]
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    barycentrics = torch.stack([1 - u - v, u, v], -1)
    points = (corners[drawn] * barycentrics[..., None]).sum(1)
    rig = RigBinding(expression_shapes(shaped), faces[drawn], barycentrics)
    return points, chin_of(model, vertices), rig


def chin_of(model: HeadModel, vertices: Tensor) -> Tensor:
    """The tip of the chin [3] of rest vertices [V, 3]."""
    return model.landmark_vertices(vertices)[CHIN]


def spread(indices: tuple[int, ...], count: int) -> list[int]:
    """So many of the indices, evenly spread."""
    positions = (
        torch.linspace(0, len(indices) - 1, min(count, len(indices))).round().long().tolist()
    )
    return [indices[position] for position in positions]
