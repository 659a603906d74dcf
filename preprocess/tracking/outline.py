"""The face's outline counts across, hardly along itself."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.landmarks import OVAL
from likeness.preprocess.tracking.config import TrackerConfig


def residual_metric(points: Tensor, rest: Tensor, config: TrackerConfig) -> Tensor:
    """Symmetric matrices [T, L, 2, 2] that weigh the residuals of landmarks by direction in the
    image.

    points: [T, L, 2] pixels as detected; rest: [L, 3] the mean head's landmarks. The detector
    places the outline of the face where the head's silhouette is, so its points are not fixed to
    the
    surface: they, and those near them, slide along the outline when the head nods. What they say
    truly is where the outline lies across. Elsewhere the matrix is the identity.
    """
    oval = torch.tensor(OVAL)
    flat = rest[:, :2]
    distance, nearest = (flat[:, None] - flat[oval]).norm(dim=-1).min(dim=-1)
    closeness = torch.exp(-((distance / (config.outline_width_mm * 1e-3)) ** 2))
    along = 1 - (1 - config.outline_tangent_weight) * closeness
    cycle = points[:, oval]
    tangent = torch.nn.functional.normalize(cycle.roll(-1, 1) - cycle.roll(1, 1), dim=-1)[
        :, nearest
    ]
    loss = (1 - along.sqrt())[:, None, None] * tangent[..., :, None] * tangent[..., None, :]
    return torch.eye(2, dtype=points.dtype) - loss
