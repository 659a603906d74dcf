"""Gaussians whose looks never change, moved by the head model's shapes and the two frames alone.

What a single picture can say: how somebody looks, not how their skin changes as they move. Cheap to
    play everywhere.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.avatars.base import (
    AvatarModel,
    AvatarShape,
    Rates,
    TrainingStates,
    bounded_scales,
    cloud_of,
)
from likeness.ops import fused_deform
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.unit_quaternions import unit_quats
from likeness.scene.bounds import Degree, RatePair
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds


@dataclasses.dataclass(frozen=True)
class RiggedRates(Rates):
    """Learning rates at the start and the end of the fit."""

    colors: RatePair = (2.5e-3, 2.5e-3)
    """Spherical harmonics."""
    opacity_logits: RatePair = (2.5e-2, 2.5e-2)
    """Opacities."""


@dataclasses.dataclass(frozen=True)
class RiggedConfig:
    """Sizes of the model."""

    sh_degree: Degree = 0
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    anchoring: AnchoringConfig = AnchoringConfig(two_frames=True, rigged=True)
    """Two frames, the rig, sway and pose correction."""
    rates: RiggedRates = RiggedRates()
    """Learning rates."""


class Rigged(AvatarModel):
    """See the module."""

    kind = "rigged"
    Config = RiggedConfig

    def __init__(self, config: RiggedConfig, shape: AvatarShape) -> None:
        super().__init__(shape, config.anchoring)
        self.config = config
        count, p = shape.num_gaussians, self.per_gaussian
        p["colors"] = nn.Parameter(
            torch.zeros(count, spherical_harmonics.num_coefficients(config.sh_degree), 3)
        )
        p["opacity_logits"] = nn.Parameter(torch.zeros(count))

    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        p, cloud = self.per_gaussian, seeds.cloud
        with torch.no_grad():
            kept = min(p["colors"].shape[1], cloud.sh.shape[1])
            p["colors"].zero_()
            p["colors"][:, :kept] = cloud.sh[:, :kept]
            p["opacity_logits"].copy_(torch.logit(cloud.opacities.clamp(0.01, 0.99)))

    def canonical(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        p, fixed = self.per_gaussian, self.constants()
        return cloud_of(
            state.batch_shape,
            p["means"],
            fixed["quats"],
            fixed["scales"],
            fixed["opacities"],
            p["colors"],
        )

    def parts(self) -> tuple[fused_deform.CanonicalGaussians, None]:
        p, fixed = self.per_gaussian, self.constants()
        rest = fused_deform.CanonicalGaussians(
            p["means"], fixed["quats"], fixed["scales"], p["opacity_logits"], p["colors"]
        )
        return rest, None

    def base_colours(self) -> Tensor:
        return self.per_gaussian["colors"][:, 0]

    def fixed(self) -> dict[str, Tensor]:
        p = self.per_gaussian
        return {
            "quats": unit_quats(p["quats"]),
            "scales": bounded_scales(p["log_scales"]),
            "opacities": torch.sigmoid(p["opacity_logits"]),
        }
