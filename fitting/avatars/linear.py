"""Gaussians whose looks and places are linear in a few codes of the state.

One small network, evaluated once per state, turns expression, joints and the body's pose into R
codes; each Gaussian adds its own R modes by them. There is no network per Gaussian, so that a
browser or a phone can evaluate it: what other avatars are distilled into for such players, and an
avatar of its own.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import AnchoringConfig, bent_pose
from likeness.fitting.avatars.base import (
    LOG_SCALE_LIMITS,
    AvatarModel,
    AvatarShape,
    Rates,
    TrainingStates,
    bounded_scales,
    cloud_of,
)
from likeness.fitting.avatars.blending import BlendBasis
from likeness.ops import fused_deform
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.unit_quaternions import unit_quats
from likeness.scene.bounds import Count, Degree, Layers, RatePair, Width
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import multiply_quats, rotvecs_to_quats

SHIFT_M, TURN_RAD = 0.01, 0.1
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
class LinearConfig:
    """Sizes of the model."""

    codes: Count = 16
    """Codes R of a state."""
    hidden_size: Width = 64
    """Channels of the hidden layers of the network that gives the codes."""
    hidden_layers: Layers = 2
    """Its hidden layers; 0: codes are linear in the state."""
    sh_degree: Degree = 1
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    motion: bool = True
    """Codes also move, turn and scale the Gaussians."""
    anchoring: AnchoringConfig = AnchoringConfig()
    """Two frames, the rig, sway and pose correction."""
    rates: LinearRates = LinearRates()
    """Learning rates."""


class Linear(AvatarModel):
    """See the module."""

    kind = "linear"
    Config = LinearConfig

    def __init__(self, config: LinearConfig, shape: AvatarShape) -> None:
        super().__init__(shape, config.anchoring)
        self.config = config
        count, p = shape.num_gaussians, self.per_gaussian
        looks = 1 + 3 * spherical_harmonics.num_coefficients(config.sh_degree)
        self.coder = _coder(shape.num_expressions + 3 * shape.num_joints + 6, config)
        p["base_looks"] = nn.Parameter(torch.zeros(count, looks))
        p["look_modes"] = nn.Parameter(torch.zeros(count, config.codes, looks))
        if config.motion:
            p["motion_modes"] = nn.Parameter(torch.zeros(count, config.codes, 9))

    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        with torch.no_grad():
            looks = self.per_gaussian["base_looks"].zero_()
            looks[:, 0] = torch.logit(seeds.cloud.opacities.clamp(0.01, 0.99))
            looks[:, 1:4] = seeds.cloud.sh[:, 0]

    def base_colours(self) -> Tensor:
        return self.per_gaussian["base_looks"][:, 1:4]

    def codes(self, state: HeadState) -> Tensor:
        """The codes [*b, R] of states [*b]."""
        unread = None if self._frozen is None else self._frozen.get("unread_pose")
        pose = bent_pose(state) if unread is None else unread.expand(*state.batch_shape, -1)
        return self.coder(torch.cat([state.expression, pose], -1))

    def canonical(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        p, codes = self.per_gaussian, self.codes(state)
        looks, motions = self._blended(codes)
        fixed = self.constants()
        means, quats, scales = p["means"], fixed["quats"], fixed["scales"]
        if motions is not None:
            shift, turn, growth = motions.split(3, -1)
            means = means + SHIFT_M * shift
            quats = multiply_quats(rotvecs_to_quats(TURN_RAD * turn), quats)
            scales = bounded_scales(p["log_scales"] + growth)
        colours = looks[..., 1:].unflatten(-1, (-1, 3))
        return cloud_of(
            state.batch_shape, means, quats, scales, torch.sigmoid(looks[..., 0]), colours
        )

    def fixed(self) -> dict[str, Tensor]:
        p = self.per_gaussian
        return {"quats": unit_quats(p["quats"]), "scales": bounded_scales(p["log_scales"])}

    def _blended(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Looks [*b, N, L] and, where there are any, motions [*b, N, 9]."""
        p = self.per_gaussian
        if self._frozen is not None and self._placer is None:
            motions = self._blend_laid("motion_modes", codes) if self.config.motion else None
            return p["base_looks"] + self._blend_laid("look_modes", codes), motions
        looks = p["base_looks"] + BlendBasis.apply(p["look_modes"], codes)
        return looks, BlendBasis.apply(p["motion_modes"], codes) if self.config.motion else None

    def freeze(self) -> None:
        super().freeze()
        if self._placer is None:
            self._lay_by_code("look_modes", *["motion_modes"] * self.config.motion)
            return
        with torch.no_grad():
            by_pose = self.coder[0].weight[:, self.num_expressions :]
            if not by_pose.any():  # as of teachers that do not read it
                self._frozen["unread_pose"] = torch.zeros_like(by_pose[0])

    def parts(self) -> tuple[fused_deform.CanonicalGaussians, fused_deform.NetworkOffsets]:
        p, fixed, grown = self.per_gaussian, self.constants(), None
        modes, start = p["look_modes"], p["base_looks"]
        if self.config.motion:
            modes = torch.cat([modes, p["motion_modes"]], -1)
            start = torch.nn.functional.pad(start, (0, p["motion_modes"].shape[2]))
            grown = p["log_scales"], LOG_SCALE_LIMITS
        rest = fused_deform.CanonicalGaussians(p["means"], fixed["quats"], fixed["scales"])
        network, looks = BlockedNetwork(modes, start), p["base_looks"].shape[1]
        return rest, fused_deform.NetworkOffsets(network, looks, (SHIFT_M, TURN_RAD), grown)

    def regularizers(self) -> dict[str, Tensor]:
        return super().regularizers() | {"basis": self.per_gaussian["look_modes"].square().mean()}


def _coder(inputs: int, config: LinearConfig) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(config.hidden_layers):
        modules += [nn.Linear(inputs, config.hidden_size), nn.ReLU()]
        inputs = config.hidden_size
    return nn.Sequential(*modules, nn.Linear(inputs, config.codes))
