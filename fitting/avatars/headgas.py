"""HeadGaS (Dhamo et al., ECCV 2024): Gaussians whose features are blended by the expression.

Per Gaussian a basis F [B, f] and an offset f0 [f]; the frame's feature is f_i = Σ_b e_b F_b + f0. A
small MLP takes f_i with the positional encoding of the mean and gives spherical harmonics and
opacity. Means, rotations and scales are
static: motion is Gaussians that appear and vanish.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import AnchoringConfig
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
from likeness.fitting.avatars.layers import apply_layers, compile_kernels
from likeness.ops import fused_deform
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.encoding import encode, encoded_size
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.unit_quaternions import unit_quats
from likeness.scene.bounds import CountFromZero, Degree, Frequencies, Layers, RatePair, Width
from likeness.scene.cloud import GaussianCloud
from likeness.scene.extent import SCENE_RADIUS_M
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import multiply_quats, rotvecs_to_quats

_SHIFT_M, _TURN_RAD = 0.01, 0.1  # that the network's outputs of 1 stand for


@dataclasses.dataclass(frozen=True)
class HeadGaSRates(Rates):
    """Learning rates at the start and the end of the fit."""

    features: RatePair = (2.5e-3, 2.5e-3)
    """Features f0."""
    basis: RatePair = (2.5e-3, 2.5e-3)
    """Expression bases F."""
    base_colors: RatePair = (2.5e-3, 2.5e-3)
    """Gaussians' own colours, where they have them."""
    base_opacities: RatePair = (2.5e-2, 2.5e-2)
    """Gaussians' own opacity logits, where they have them."""
    mlp: RatePair = (1e-3, 1e-4)
    """The network that gives appearance."""


@dataclasses.dataclass(frozen=True)
class HeadGaSConfig:
    """The model of the paper and the switches of its ablation (Table 3)."""

    feature_size: Width = 32
    """Size f of a Gaussian's feature."""
    hidden_size: Width = 64
    """Channels of the MLP's hidden layers."""
    hidden_layers: Layers = 2
    """Hidden layers of the MLP."""
    encoding_frequencies: Frequencies = 4
    """Frequencies of the positional encoding of the mean (the paper does not say how many)."""
    encoding_gradient: bool = True
    """Means also follow the gradient of what the network makes of their encoding (paper: equation 4
    has no stop)."""
    sh_degree: Degree = 3
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    blending: Literal["features", "none", "parameters"] = "features"
    """features: the paper's. none: the MLP sees the expression itself ("w/o blending"). parameters:
    colour and opacity are blended directly ("w/o MLP")."""
    changes: Literal["appearance", "geometry", "all", "everything"] = "appearance"
    """What the expression changes. appearance: colour and opacity (paper). geometry: Δ(μ, R)
    instead ("w/ Δ(μ, R)").
    everything: colour, opacity, μ, R and scale ("change all"). all: everything but scales."""
    expression_codes: CountFromZero = 0
    """Blend by so many principal components of the training expressions instead of all
    coefficients; 0: all."""
    limited: bool = False
    """Bases and network see coefficients only as far as the training frames had them: what was
    never seen moves Gaussians by the rig alone, and invents no colours. (``expression_codes`` are
    always kept to what was seen.)"""
    base_appearance: bool = False
    """Each Gaussian has its own colour and opacity, to which the MLP's output is added; starts from
    the seeds."""
    anchoring: AnchoringConfig = AnchoringConfig()
    """Two frames, the rig, sway and pose correction: not of the paper."""
    rates: HeadGaSRates = HeadGaSRates()
    """Learning rates."""


class HeadGaS(AvatarModel):
    """See the module."""

    kind = "headgas"
    Config = HeadGaSConfig

    def __init__(self, config: HeadGaSConfig, shape: AvatarShape) -> None:
        super().__init__(shape, config.anchoring)
        self.config = config
        count = shape.num_gaussians
        self.num_codes = (
            min(config.expression_codes, shape.num_expressions) or shape.num_expressions
        )
        if config.expression_codes:
            self.register_buffer("code_mean", torch.zeros(shape.num_expressions))
            self.register_buffer(
                "code_projection", torch.zeros(shape.num_expressions, self.num_codes)
            )
        if config.expression_codes or config.limited:
            self.register_buffer(
                "code_limits", torch.tensor([[0.0], [1.0]]).repeat(1, self.num_codes)
            )
        coefficients = spherical_harmonics.num_coefficients(config.sh_degree)
        self._sizes = self._output_sizes(coefficients)
        outputs = sum(self._sizes.values())

        p = self.per_gaussian
        features = outputs if config.blending == "parameters" else config.feature_size
        p["features"] = nn.Parameter(torch.zeros(count, features))
        if config.blending != "none":
            p["basis"] = nn.Parameter(torch.zeros(count, self.num_codes, features))
        if config.base_appearance or config.changes == "geometry":
            p["base_colors"] = nn.Parameter(torch.zeros(count, coefficients, 3))
            p["base_opacities"] = nn.Parameter(torch.zeros(count))
        if config.blending != "parameters":
            inputs = config.feature_size + encoded_size(3, config.encoding_frequencies)
            if config.blending == "none":
                inputs += self.num_codes
            self.mlp = _make_mlp(inputs, config.hidden_size, config.hidden_layers, outputs)

    def _output_sizes(self, coefficients: int) -> dict[str, int]:
        sizes: dict[str, int] = {}
        if self.config.changes in ("appearance", "all", "everything"):
            sizes |= {"opacity": 1, "sh": coefficients * 3}
        if self.config.changes in ("geometry", "all", "everything"):
            sizes |= {"shift": 3, "turn": 3}
        if self.config.changes == "everything":
            sizes |= {"growth": 3}
        return sizes

    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        p, cloud = self.per_gaussian, seeds.cloud
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            if self.config.blending != "parameters":
                p["features"].copy_(torch.randn(p["features"].shape, generator=generator) * 0.1)
            opacity = torch.logit(cloud.opacities.clamp(0.01, 0.99))
            if "base_colors" in p:
                p["base_colors"].zero_()
                p["base_colors"][:, 0] = cloud.sh[:, 0]
                p["base_opacities"].copy_(opacity)
            elif self.config.blending == "parameters":
                p["features"][:, 0] = opacity
                p["features"][:, 1:4] = cloud.sh[:, 0]
            else:
                self.mlp[-1].bias[0] = opacity.mean()
                self.mlp[-1].bias[1:4] = cloud.sh[:, 0].mean(0)
            if self.config.expression_codes:
                self._fit_codes(states.expressions)
            elif self.config.limited:
                self.code_limits.copy_(
                    torch.stack([states.expressions.amin(0), states.expressions.amax(0)])
                )

    def _fit_codes(self, expressions: Tensor) -> None:
        """Principal components of the training expressions, each of unit deviation at the largest
        component's scale."""
        mean = expressions.mean(0)
        _, deviations, directions = torch.linalg.svd(expressions - mean, full_matrices=False)
        count = min(self.num_codes, len(directions))
        self.code_mean.copy_(mean)
        self.code_projection.zero_()
        scale = (deviations[0] / len(expressions) ** 0.5).clamp_min(1e-3)
        self.code_projection[:, :count] = directions[:count].T / scale
        codes = (expressions - mean) @ self.code_projection
        margin = 0.2 * (codes.amax(0) - codes.amin(0))
        self.code_limits.copy_(torch.stack([codes.amin(0) - margin, codes.amax(0) + margin]))

    def codes(self, state: HeadState) -> Tensor:
        """What the features are blended by, [*b, B]: expression coefficients, or their codes,
        clamped to those seen."""
        codes = state.expression
        if self.config.expression_codes:
            codes = (codes - self.code_mean) @ self.code_projection
        elif not self.config.limited:
            return codes
        return codes.clamp(self.code_limits[0], self.code_limits[1])

    def canonical(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        p, codes = self.per_gaussian, self.codes(state)
        values = dict(zip(self._sizes, self._network(codes).split(list(self._sizes.values()), -1)))
        if "sh" in values:
            logits = values["opacity"][..., 0]
            colours = values["sh"].unflatten(-1, (-1, 3))
        if "base_colors" in p:
            logits = p["base_opacities"] + (logits if "sh" in values else 0)
            colours = p["base_colors"] + (colours if "sh" in values else 0)
        fixed = self.constants()
        means, quats, scales = p["means"], fixed["quats"], fixed["scales"]
        if "shift" in values:
            means = means + values["shift"] * _SHIFT_M
            quats = multiply_quats(rotvecs_to_quats(values["turn"] * _TURN_RAD), quats)
        if "growth" in values:
            scales = bounded_scales(p["log_scales"] + values["growth"])
        return cloud_of(state.batch_shape, means, quats, scales, torch.sigmoid(logits), colours)

    def base_colours(self) -> Tensor | None:
        return (
            self.per_gaussian["base_colors"][:, 0] if "base_colors" in self.per_gaussian else None
        )

    def fixed(self) -> dict[str, Tensor]:
        p = self.per_gaussian
        return {"quats": unit_quats(p["quats"]), "scales": bounded_scales(p["log_scales"])}

    def freeze(self) -> None:
        super().freeze()
        p, config = self.per_gaussian, self.config
        if self._placer is not None:
            return
        if "basis" in p:
            self._lay_by_code("basis")
        with torch.no_grad():
            if config.blending != "parameters":
                weight, size = self.mlp[0].weight, config.feature_size
                encoding = self._encoding()
                first = self.mlp[0].bias + encoding @ weight[:, -encoding.shape[1] :].T
                self._frozen["first"] = first + p["features"] @ weight[:, :size].T

    def parts(self) -> tuple[fused_deform.CanonicalGaussians, fused_deform.NetworkOffsets] | None:
        p, fixed = self.per_gaussian, self.constants()
        if "basis" not in p:  # the network sees the expression itself
            return None
        start, layers = p["features"], []
        if self.config.blending != "parameters":
            layers = [layer for layer in self.mlp if isinstance(layer, nn.Linear)]
            start = layers[0](torch.cat([start, self._encoding()], -1))
        own = (p["base_opacities"], p["base_colors"]) if "base_colors" in p else ()
        looks = self._sizes.get("opacity", 0) + self._sizes.get("sh", 0)
        rest = fused_deform.CanonicalGaussians(p["means"], fixed["quats"], fixed["scales"], *own)
        grown = (p["log_scales"], LOG_SCALE_LIMITS) if "growth" in self._sizes else None
        return rest, fused_deform.NetworkOffsets(
            BlockedNetwork(p["basis"], start, layers), looks, (_SHIFT_M, _TURN_RAD), grown
        )

    def warm_up(self) -> None:
        super().warm_up()
        if (
            self._frozen is None
            and self.networks()
            and self.per_gaussian["means"].device.type == "cpu"
        ):
            compile_kernels()
            self._encoding()

    def networks(self) -> dict[str, nn.Module]:
        return {} if self.config.blending == "parameters" else {"mlp": self.mlp}

    def _frozen_network(self, codes: Tensor) -> Tensor:
        """What ``_network`` gives, without what no expression changes: the first layer is
        linear."""
        p, first, size = self.per_gaussian, self.constants().get("first"), self.config.feature_size
        if self.config.blending == "none":
            weight = self.mlp[0].weight[:, size : size + self.num_codes]
            return self._further_layers(first + weight @ codes)
        blended = self._blend_laid("basis", codes)
        if first is None:
            return p["features"] + blended
        return self._further_layers(torch.addmm(first, blended, self.mlp[0].weight[:, :size].T))

    def _frozen_inputs(self, codes: Tensor) -> list[Tensor]:
        """What the network sees, as tensors [N, *] side by side."""
        p = self.per_gaussian
        if "encoding" not in self._frozen:
            self._frozen["encoding"] = self._encoding()
        if self.config.blending == "none":
            return [p["features"], codes.expand(self.num_gaussians, -1), self._frozen["encoding"]]
        return [p["features"] + self._blend_laid("basis", codes), self._frozen["encoding"]]

    def _further_layers(self, x: Tensor) -> Tensor:
        """What the network makes of the sums [N, H] of its first layer."""
        for layer in self.mlp[1:]:
            x = layer(x)
        return x

    def _encoding(self) -> Tensor:
        means = self.per_gaussian["means"]
        means = means if self.config.encoding_gradient else means.detach()
        return encode(means / SCENE_RADIUS_M, self.config.encoding_frequencies)

    def _network(self, codes: Tensor) -> Tensor:
        """What codes [*b, B] give, [*b, N, *]."""
        if "mlp" in self._evaluators:
            return self._evaluators["mlp"](self._frozen_inputs(codes))
        if self._frozen is not None and self._placer is None:
            return self._frozen_network(codes)
        p = self.per_gaussian
        shape = (*codes.shape[:-1], self.num_gaussians)
        if self.config.blending == "none":
            features = torch.cat(
                [p["features"].expand(*shape, -1), codes[..., None, :].expand(*shape, -1)], -1
            )
        else:
            features = p["features"] + BlendBasis.apply(p["basis"], codes)
        if self.config.blending == "parameters":
            return features
        inputs = features.flatten(0, -2), self._encoding().expand(*shape, -1).flatten(0, -2)
        return apply_layers(self.mlp, list(inputs)).unflatten(0, shape)

    def regularizers(self) -> dict[str, Tensor]:
        penalties, p = super().regularizers(), self.per_gaussian
        if "basis" in p:
            penalties["basis"] = p["basis"].square().mean()
        return penalties


def _make_mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(inputs, hidden), nn.ReLU()]
        inputs = hidden
    last = nn.Linear(inputs, outputs)
    # A quiet start: the first pictures show the biases, not noise.
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules, last)
