"""The cloud that frames are tracked with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.ops.deform import rig
from likeness.ops.deform.batched import posed
from likeness.scene.cloud import GaussianCloud
from likeness.scene.seeds import Seeds

RATES = {
    "means": 6e-4,
    "log_scales": 2e-2,
    "quats": 1e-2,
    "opacity_logits": 6e-2,
    "sh": 2e-2,
    "head_logits": 2e-2,
}
"""Learning rates of the parameters: metres, log metres, quaternion components, logits, harmonics,
logits."""


class TrackingCloud(nn.Module):
    """N Gaussians of constant colour, moved by the head model's expression shapes and by sway,
    between the head's and the body's frame by a weight of each."""

    def __init__(self, seeds: Seeds) -> None:
        super().__init__()
        cloud, tied = seeds.cloud, seeds.rig
        self.means = nn.Parameter(cloud.means.clone())
        self.log_scales = nn.Parameter(cloud.scales.log())
        self.quats = nn.Parameter(cloud.quats.clone())
        self.opacity_logits = nn.Parameter(torch.logit(cloud.opacities))
        self.sh = nn.Parameter(cloud.sh.clone())
        self.head_logits = nn.Parameter(torch.logit(seeds.head_weights.clamp(0.01, 0.99)))
        shapes = rig.shapes_of_gaussians(tied.shapes, tied.vertices, tied.weights)
        self.register_buffer("shapes", shapes, persistent=False)

    def forward(
        self, expression: Tensor, corrections: Tensor, frames: Tensor, sway: Tensor
    ) -> GaussianCloud:
        """The cloud [B, N] for expressions [B, E] and sway [B, C, 2], with head and body where
        ``corrections`` [B, 12] and ``frames`` [B, 2, 16] place them
        (``likeness.ops.deform.batched``)."""
        cloud = GaussianCloud(
            self.means,
            self.quats,
            self.log_scales.exp(),
            torch.sigmoid(self.opacity_logits),
            self.sh,
        )
        shift = (expression @ self.shapes).unflatten(-1, (-1, 3))
        return posed(cloud, torch.sigmoid(self.head_logits), shift, corrections, frames, sway)
