"""Gaussians whose appearance and places are linear in a few codes of the state.

One small network, evaluated once per state, turns expression, joints and the body's pose into R
codes; each Gaussian adds its own R modes by them. There is no network per Gaussian, so that a
browser or a phone can evaluate it: what other avatars are distilled into for such players, and an
avatar of its own.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import bent_pose
from likeness.fitting.avatars.base import (
    LOG_SCALE_LIMITS,
    AvatarConfig,
    AvatarModel,
    AvatarShape,
    Backend,
    FrozenAvatar,
    Rates,
    TrainingStates,
    bounded_scales,
    cloud_of,
)
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.fused_deform import CanonicalGaussians, NetworkOffsets
from likeness.ops.mlp import BlockedNetwork
from likeness.scene.bounds import Count, Degree, RatePair, Size, SmallCount
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import multiply_quats, rotvecs_to_quats

TRANSLATION_M, ROTATION_RAD = 0.01, 0.1
"""Metres and radians that a motion mode of 1 stands for at a code of 1."""


@dataclasses.dataclass(frozen=True)
class LinearRates(Rates):
    """Learning rates at the start and the end of the fit."""

    base_looks: RatePair = (2.5e-3, 2.5e-3)
    """Opacity logits and harmonics at codes of 0."""
    look_modes: RatePair = (2.5e-3, 2.5e-3)
    """What codes add to them."""
    motion_modes: RatePair = (2.5e-3, 2.5e-3)
    """What codes add to positions, rotations and log-scales."""
    coder: RatePair = (1e-3, 1e-4)
    """The network that gives the codes."""


@dataclasses.dataclass(frozen=True)
class LinearConfig(AvatarConfig):
    """Sizes of the model."""

    codes: Count = 16
    """Codes R of a state."""
    hidden_size: Size = 64
    """Channels of the hidden layers of the network that gives the codes."""
    hidden_layers: SmallCount = 2
    """Its hidden layers; 0: codes are linear in the state."""
    sh_degree: Degree = 1
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    motion: bool = True
    """Codes also move, rotate and scale the Gaussians."""
    rates: LinearRates = LinearRates()
    """Learning rates."""


class Linear(AvatarModel):
    """See the module."""

    kind = "linear"
    Config = LinearConfig
    bases = ("look_modes", "motion_modes")
    config: LinearConfig

    def __init__(self, config: LinearConfig, shape: AvatarShape) -> None:
        super().__init__(config, shape)
        count, p = shape.num_gaussians, self.per_gaussian
        appearance = 1 + 3 * spherical_harmonics.num_coefficients(config.sh_degree)
        self.coder = _coder(shape.num_expressions + 3 * shape.num_joints + 6, config)
        p["base_looks"] = nn.Parameter(torch.zeros(count, appearance))
        p["look_modes"] = nn.Parameter(torch.zeros(count, config.codes, appearance))
        if config.motion:
            p["motion_modes"] = nn.Parameter(torch.zeros(count, config.codes, 9))

    @torch.no_grad()
    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        appearance = self.per_gaussian["base_looks"].zero_()
        appearance[:, 0] = torch.logit(seeds.cloud.opacities.clamp(0.01, 0.99))
        appearance[:, 1:4] = seeds.cloud.sh[:, 0]

    def base_colours(self) -> Tensor:
        return self.per_gaussian["base_looks"][:, 1:4]

    def base_opacities(self) -> Tensor:
        return self.per_gaussian["base_looks"][:, 0]

    def codes(self, state: HeadState) -> Tensor:
        """The codes [*b, R] of states [*b]."""
        inputs = state.expression
        if self._first_layer.in_features > self.num_expressions:
            inputs = torch.cat([inputs, bent_pose(state)], -1)
        return self.coder(inputs)

    @property
    def _first_layer(self) -> nn.Linear:
        return next(layer for layer in self.coder if isinstance(layer, nn.Linear))

    def compile(self, device: torch.device | str = "cpu") -> FrozenAvatar:
        copied = self.duplicate(lambda tensor: tensor.to(device))
        weight = self._first_layer.weight
        if not weight[:, self.num_expressions :].any():  # as of teachers that read no pose
            first = copied._first_layer
            first.weight = nn.Parameter(first.weight[:, : self.num_expressions], False)
            first.in_features = self.num_expressions
        return FrozenAvatar(copied)

    def canonical(self, state: HeadState, eye: Tensor, backend: Backend) -> GaussianCloud:
        p, codes = self.per_gaussian, self.codes(state)
        appearance = p["base_looks"] + backend.blend("look_modes", codes)
        means, quats = p["means"], backend.constants["quats"]
        scales = backend.constants["scales"]
        if self.config.motion:
            motions = backend.blend("motion_modes", codes)
            translation, rotation, log_scales = motions.split(3, -1)
            means = means + TRANSLATION_M * translation
            quats = multiply_quats(rotvecs_to_quats(ROTATION_RAD * rotation), quats)
            scales = bounded_scales(p["log_scales"] + log_scales)
        opacities, colours = (
            torch.sigmoid(appearance[..., 0]),
            appearance[..., 1:].unflatten(-1, (-1, 3)),
        )
        return cloud_of(state.batch_shape, means, quats, scales, opacities, colours)

    def fused_parts(
        self, constants: dict[str, Tensor]
    ) -> tuple[CanonicalGaussians, NetworkOffsets]:
        p, grown = self.per_gaussian, None
        modes, start = p["look_modes"], p["base_looks"]
        appearance = start.shape[1]
        if self.config.motion:
            modes = torch.cat([modes, p["motion_modes"]], -1)
            start = torch.nn.functional.pad(start, (0, p["motion_modes"].shape[2]))
            grown = p["log_scales"], LOG_SCALE_LIMITS
        rest = CanonicalGaussians(p["means"], constants["quats"], constants["scales"])
        network = BlockedNetwork(modes, start)
        return rest, NetworkOffsets(network, appearance, (TRANSLATION_M, ROTATION_RAD), grown)

    def regularizers(self) -> dict[str, Tensor]:
        return super().regularizers() | {"basis": self.per_gaussian["look_modes"].square().mean()}


def _coder(inputs: int, config: LinearConfig) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(config.hidden_layers):
        modules += [nn.Linear(inputs, config.hidden_size), nn.ReLU()]
        inputs = config.hidden_size
    return nn.Sequential(*modules, nn.Linear(inputs, config.codes))
