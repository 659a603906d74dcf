"""Gaussians whose appearance never changes, moved by the head model's shapes and the two frames
alone: what a single image can tell. Cheap to play everywhere."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.avatars.base import (
    AvatarConfig,
    AvatarModel,
    AvatarShape,
    Backend,
    Rates,
    TrainingStates,
    cloud_of,
)
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.fused_deform import CanonicalGaussians
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
class RiggedConfig(AvatarConfig):
    """Sizes of the model."""

    sh_degree: Degree = 0
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    anchoring: AnchoringConfig = AnchoringConfig(two_frames=True, rigged=True)
    """Two frames, the rig, secondary motion and pose correction."""
    rates: RiggedRates = RiggedRates()
    """Learning rates."""


class Rigged(AvatarModel):
    """See the module."""

    kind = "rigged"
    Config = RiggedConfig
    config: RiggedConfig

    def __init__(self, config: RiggedConfig, shape: AvatarShape) -> None:
        super().__init__(config, shape)
        count, p = shape.num_gaussians, self.per_gaussian
        coefficients = spherical_harmonics.num_coefficients(config.sh_degree)
        p["colors"] = nn.Parameter(torch.zeros(count, coefficients, 3))
        p["opacity_logits"] = nn.Parameter(torch.zeros(count))

    @property
    def shows_unseen(self) -> bool:
        return self.config.anchoring.rigged

    @torch.no_grad()
    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        p, cloud = self.per_gaussian, seeds.cloud
        count = min(p["colors"].shape[1], cloud.sh.shape[1])
        p["colors"].zero_()
        p["colors"][:, :count] = cloud.sh[:, :count]
        p["opacity_logits"].copy_(torch.logit(cloud.opacities.clamp(0.01, 0.99)))

    def constants(self) -> dict[str, Tensor]:
        opacities = torch.sigmoid(self.per_gaussian["opacity_logits"])
        return super().constants() | {"opacities": opacities}

    def canonical(self, state: HeadState, eye: Tensor, backend: Backend) -> GaussianCloud:
        p, c = self.per_gaussian, backend.constants
        fields = p["means"], c["quats"], c["scales"], c["opacities"], p["colors"]
        return cloud_of(state.batch_shape, *fields)

    def fused_parts(self, constants: dict[str, Tensor]) -> tuple[CanonicalGaussians, None]:
        p, c = self.per_gaussian, constants
        fields = p["means"], c["quats"], c["scales"], p["opacity_logits"], p["colors"]
        return CanonicalGaussians(*fields), None

    def base_colours(self) -> Tensor:
        return self.per_gaussian["colors"][:, 0]

    def base_opacities(self) -> Tensor:
        return self.per_gaussian["opacity_logits"]
