"""The cloud that frames are tracked with."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from scene import rig
from scene.cloud import GaussianCloud
from scene.seeds import Seeds
from scene.skinning import blend_two_frames
from scene.sway import swayed
from scene.transforms import normalize_quats

# Learning rates: metres, log metres, quaternion components, logits, harmonics, logits.
_RATES = {"means": 3e-4, "log_scales": 1e-2, "quats": 5e-3, "opacity_logits": 3e-2, "sh": 1e-2, "head_logits": 1e-2}


class TrackingCloud(nn.Module):
    """N Gaussians of constant colour, moved by the head model's expression shapes and by sway, between the head's
    and the body's frame by a weight of each."""

    def __init__(self, seeds: Seeds) -> None:
        super().__init__()
        cloud = seeds.cloud
        self.means = nn.Parameter(cloud.means.clone())
        self.log_scales = nn.Parameter(cloud.scales.log())
        self.quats = nn.Parameter(cloud.quats.clone())
        self.opacity_logits = nn.Parameter(torch.logit(cloud.opacities))
        self.sh = nn.Parameter(cloud.sh.clone())
        self.head_logits = nn.Parameter(torch.logit(seeds.head_weights.clamp(0.01, 0.99)))
        for name in ("shapes", "vertices", "weights"):
            self.register_buffer(name, getattr(seeds.rig, name))

    def parameter_groups(self) -> list[dict]:
        """For an optimizer."""
        return [{"params": [getattr(self, name)], "lr": rate, "rate": rate} for name, rate in _RATES.items()]

    def forward(self, expression: Tensor, T_head: Tensor, T_body: Tensor, sway: Tensor) -> GaussianCloud:
        """The cloud [B, N] for expressions [B, E] and sway [B, C, 2], with the head and the body moved by [B, 4, 4]
        from where they rest in the frame that the result is in."""
        batch = len(expression)
        cloud = GaussianCloud(
            means=self.means.expand(batch, -1, 3),
            quats=normalize_quats(self.quats).expand(batch, -1, 4),
            scales=self.log_scales.exp().expand(batch, -1, 3),
            opacities=torch.sigmoid(self.opacity_logits).expand(batch, -1),
            sh=self.sh.expand(batch, -1, -1, 3),
        )
        moved = rig.displace(cloud, expression, self.shapes, self.vertices, self.weights)
        moved = dataclasses.replace(moved, means=swayed(moved.means, sway))
        return blend_two_frames(moved, T_head, T_body, torch.sigmoid(self.head_logits))
