"""The cloud that frames are tracked with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.ops.deform import deform, shapes_of_gaussians
from likeness.scene.cloud import GaussianCloud
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

UNIT_M = 0.1
"""Metres of a correction's translation by 1, so that it and a radian move pixels alike."""

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
    """N Gaussians of constant colour, moved by the head model's expression shapes and by
    secondary motion, between the head's and the body's frame by a weight of each."""

    shapes: Tensor

    def __init__(self, seeds: Seeds) -> None:
        super().__init__()
        cloud = seeds.cloud
        self.means = nn.Parameter(cloud.means.clone())
        self.log_scales = nn.Parameter(cloud.scales.log())
        self.quats = nn.Parameter(cloud.quats.clone())
        self.opacity_logits = nn.Parameter(torch.logit(cloud.opacities))
        self.sh = nn.Parameter(cloud.sh.clone())
        self.head_logits = nn.Parameter(torch.logit(seeds.head_weights.clamp(0.01, 0.99)))
        self.register_buffer("shapes", shapes_of_gaussians(seeds.rig), persistent=False)

    def forward(
        self, expression: Tensor, corrections: Tensor, T_head_body: Tensor, secondary_motion: Tensor
    ) -> GaussianCloud:
        """The cloud [B, N] in the tracked heads' frames, for expressions [B, E] and offsets of the
        lattice [B, C, 2]; corrections [B, 12] of the head's and the body's pose, each in its own
        frame (``transforms``), act before the identity and T_head_body [B, 4, 4]."""
        cloud = GaussianCloud(
            self.means,
            self.quats,
            self.log_scales.exp(),
            torch.sigmoid(self.opacity_logits),
            self.sh,
        )
        T_head, T_body = transforms(corrections.unflatten(-1, (2, 6))).unbind(1)
        return deform(
            cloud,
            displacement=(expression @ self.shapes).unflatten(-1, (-1, 3)),
            secondary_motion=secondary_motion,
            T_head=T_head,
            T_body=T_head_body @ T_body,
            head_weights=torch.sigmoid(self.head_logits),
        )


def transforms(corrections: Tensor) -> Tensor:
    """[*b, 4, 4] from rotation vectors in radians and translations in units of UNIT_M, [*b, 6]."""
    return make_transform(rotvecs_to_matrices(corrections[..., :3]), corrections[..., 3:] * UNIT_M)
