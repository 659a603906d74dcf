"""HeadGaS (Dhamo et al., ECCV 2024): Gaussians whose features are blended by the expression.

Per Gaussian a basis F [B, f] and an offset f0 [f]; the frame's feature is f_i = Σ_b e_b F_b + f0. A
small MLP takes f_i with the positional encoding of the mean and gives spherical harmonics and
opacity. Means, rotations and scales are
static: motion is Gaussians that appear and vanish.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.base import (
    LOG_SCALE_LIMITS,
    AvatarConfig,
    AvatarModel,
    AvatarShape,
    Backend,
    Network,
    Rates,
    TrainingStates,
    bounded_scales,
    cloud_of,
)
from likeness.fitting.avatars.layers import apply_layers
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.encoding import encode, encoded_size
from likeness.ops.fused_deform import CanonicalGaussians, NetworkOffsets
from likeness.ops.mlp import BlockedNetwork
from likeness.scene.bounds import (
    CountOrZero,
    Degree,
    Frequencies,
    RatePair,
    Share,
    Size,
    SmallCount,
)
from likeness.scene.cloud import GaussianCloud
from likeness.scene.extent import SCENE_RADIUS_M
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.tensor_files import Array
from likeness.scene.transforms import multiply_quats, rotvecs_to_quats

# what outputs of 1 of the network stand for
_TRANSLATION_M, _ROTATION_RAD = 0.01, 0.1


@dataclasses.dataclass(frozen=True)
class HeadGaSRates(Rates):
    """Learning rates at the start and the end of the fit."""

    features: RatePair = (2.5e-3, 2.5e-3)
    """Features f0."""
    basis: RatePair = (2.5e-3, 2.5e-3)
    """Expression bases F."""
    base_colors: RatePair = (2.5e-3, 2.5e-3)
    """Gaussians' own colours, where they have them."""
    harmonics: Share = 1.0
    """Of that rate, for what changes with the direction that these colours are seen from."""
    base_opacities: RatePair = (2.5e-2, 2.5e-2)
    """Gaussians' own opacity logits, where they have them."""
    mlp: RatePair = (1e-3, 1e-4)
    """The network that gives appearance."""


@dataclasses.dataclass(frozen=True)
class HeadGaSConfig(AvatarConfig):
    """The model of the paper and the switches of its ablation (Table 3)."""

    feature_size: Size = 32
    """Size f of a Gaussian's feature."""
    hidden_size: Size = 64
    """Channels of the MLP's hidden layers."""
    hidden_layers: SmallCount = 2
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
    instead ("w/ Δ(μ, R)"). everything: colour, opacity, μ, R and scale ("change all"). Bundles of
    earlier versions may say all: everything but scales."""
    expression_codes: CountOrZero = 0
    """Blend by so many principal components of the training expressions, each kept to the range
    seen, instead of all coefficients; 0: all."""
    limited: bool = False
    """Bases and network (and ``expression_codes``) see coefficients only as far as the training
    frames had them: what was never seen moves Gaussians by the rig alone, and invents no
    colours."""
    base_appearance: bool = False
    """Each Gaussian has its own colour and opacity, to which the MLP's output is added; starts from
    the seeds."""
    rates: HeadGaSRates = HeadGaSRates()
    """Learning rates."""


class HeadGaS(AvatarModel):
    """See the module."""

    kind = "headgas"
    Config = HeadGaSConfig
    bases = ("basis",)
    config: HeadGaSConfig
    code_mean: Tensor
    code_projection: Tensor
    code_limits: Tensor
    expression_limits: Tensor

    def __init__(self, config: HeadGaSConfig, shape: AvatarShape) -> None:
        super().__init__(config, shape)
        count, expressions = shape.num_gaussians, shape.num_expressions
        self.num_codes = codes = min(config.expression_codes, expressions) or expressions
        if config.expression_codes:
            self.register_buffer("code_mean", torch.zeros(expressions))
            self.register_buffer("code_projection", torch.zeros(expressions, codes))
        if config.expression_codes or config.limited:
            limits = torch.tensor([[0.0], [1.0]]).repeat(1, codes)
            self.register_buffer("code_limits", limits)
        if config.expression_codes and config.limited:
            self.register_buffer("expression_limits", _unlimited(expressions))
            self.register_load_state_dict_pre_hook(_unlimited_where_missing)
        coefficients = spherical_harmonics.num_coefficients(config.sh_degree)
        self._sizes = self._output_sizes(coefficients)
        outputs = sum(self._sizes.values())

        p = self.per_gaussian
        features = outputs if config.blending == "parameters" else config.feature_size
        p["features"] = nn.Parameter(torch.zeros(count, features))
        if config.blending != "none":
            p["basis"] = nn.Parameter(torch.zeros(count, codes, features))
        if config.base_appearance or config.changes == "geometry":
            p["base_colors"] = nn.Parameter(torch.zeros(count, coefficients, 3))
            p["base_opacities"] = nn.Parameter(torch.zeros(count))
        if config.blending != "parameters":
            inputs = config.feature_size + encoded_size(3, config.encoding_frequencies)
            if config.blending == "none":
                inputs += codes
            self.mlp = _make_mlp(inputs, config.hidden_size, config.hidden_layers, outputs)

    @property
    def shows_unseen(self) -> bool:
        config = self.config
        return config.anchoring.rigged and (config.limited or config.expression_codes > 0)

    def _output_sizes(self, coefficients: int) -> dict[str, int]:
        sizes: dict[str, int] = {}
        if self.config.changes in ("appearance", "all", "everything"):
            sizes |= {"opacity": 1, "sh": coefficients * 3}
        if self.config.changes in ("geometry", "all", "everything"):
            sizes |= {"translation": 3, "rotation": 3}
        if self.config.changes == "everything":
            sizes |= {"log_scales": 3}
        return sizes

    @torch.no_grad()
    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        p, cloud, config = self.per_gaussian, seeds.cloud, self.config
        generator = torch.Generator().manual_seed(0)
        if config.blending != "parameters":
            p["features"].copy_(torch.randn(p["features"].shape, generator=generator) * 0.1)
        opacity = torch.logit(cloud.opacities.clamp(0.01, 0.99))
        if "base_colors" in p:
            p["base_colors"].zero_()
            p["base_colors"][:, 0] = cloud.sh[:, 0]
            p["base_opacities"].copy_(opacity)
        elif config.blending == "parameters":
            p["features"][:, 0] = opacity
            p["features"][:, 1:4] = cloud.sh[:, 0]
        else:
            last = self._layers()[-1]
            last.bias[0] = opacity.mean()
            last.bias[1:4] = cloud.sh[:, 0].mean(0)
        expressions = states.expressions
        if config.expression_codes:
            self._fit_codes(expressions)
        if config.limited:
            limits = self.expression_limits if config.expression_codes else self.code_limits
            limits.copy_(torch.stack([expressions.amin(0), expressions.amax(0)]))

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
        codes, config = state.expression, self.config
        if config.expression_codes:
            if config.limited:
                codes = codes.clamp(self.expression_limits[0], self.expression_limits[1])
            codes = (codes - self.code_mean) @ self.code_projection
        elif not config.limited:
            return codes
        return codes.clamp(self.code_limits[0], self.code_limits[1])

    def declared(self, prefix: str = "") -> dict[str, Array]:
        declared, name = super().declared(prefix), f"{prefix}expression_limits"
        if name in declared:
            declared[name] = dataclasses.replace(declared[name], optional=True)
        return declared

    def constants(self) -> dict[str, Tensor]:
        constants = super().constants()
        if self.config.blending != "parameters":
            means = self.per_gaussian["means"]
            means = means if self.config.encoding_gradient else means.detach()
            frequencies = self.config.encoding_frequencies
            constants["encoding"] = encode(means / SCENE_RADIUS_M, frequencies)
        return constants

    def networks(self) -> dict[str, nn.Sequential]:
        return {} if self.config.blending == "parameters" else {"mlp": self.mlp}

    def evaluators(self) -> dict[str, Network]:
        networks = self.networks().items()
        return {name: functools.partial(apply_layers, mlp) for name, mlp in networks}

    def canonical(self, state: HeadState, eye: Tensor, backend: Backend) -> GaussianCloud:
        p, outputs = self.per_gaussian, self._outputs(self.codes(state), backend)
        values = dict(zip(self._sizes, outputs.split(list(self._sizes.values()), -1)))
        if "sh" not in values:
            logits, colours = p["base_opacities"], p["base_colors"]
        else:
            logits, colours = values["opacity"][..., 0], values["sh"].unflatten(-1, (-1, 3))
            if "base_colors" in p:
                logits, colours = p["base_opacities"] + logits, p["base_colors"] + colours
        means, quats = p["means"], backend.constants["quats"]
        scales = backend.constants["scales"]
        if "translation" in values:
            means = means + values["translation"] * _TRANSLATION_M
            rotations = rotvecs_to_quats(values["rotation"] * _ROTATION_RAD)
            quats = multiply_quats(rotations, quats)
        if "log_scales" in values:
            scales = bounded_scales(p["log_scales"] + values["log_scales"])
        return cloud_of(state.batch_shape, means, quats, scales, torch.sigmoid(logits), colours)

    def _outputs(self, codes: Tensor, backend: Backend) -> Tensor:
        """What codes [*b, B] give, [*b, N, *]."""
        shape, features = (*codes.shape[:-1], self.num_gaussians), self.per_gaussian["features"]
        if self.config.blending == "parameters":
            return features + backend.blend("basis", codes)
        encoding = backend.constants["encoding"].expand(*shape, -1)
        if self.config.blending == "none":
            seen = codes[..., None, :].expand(*shape, -1)
            inputs = [features.expand(*shape, -1), seen, encoding]
        else:
            inputs = [features + backend.blend("basis", codes), encoding]
        return backend.networks["mlp"](inputs)

    def base_colours(self) -> Tensor | None:
        colours = self.per_gaussian.get("base_colors")
        return None if colours is None else colours[:, 0]

    def base_opacities(self) -> Tensor | None:
        return self.per_gaussian.get("base_opacities")

    def fused_parts(
        self, constants: dict[str, Tensor]
    ) -> tuple[CanonicalGaussians, NetworkOffsets] | None:
        p, sizes = self.per_gaussian, self._sizes
        if "basis" not in p:  # the network sees the expression itself
            return None
        start, layers = p["features"], []
        if self.config.blending != "parameters":
            layers = self._layers()
            start = layers[0](torch.cat([start, constants["encoding"]], -1))
        own = (p["base_opacities"], p["base_colors"]) if "base_colors" in p else ()
        appearance = sizes.get("opacity", 0) + sizes.get("sh", 0)
        quats, scales = constants["quats"], constants["scales"]
        rest = CanonicalGaussians(p["means"], quats, scales, *own)
        grown = (p["log_scales"], LOG_SCALE_LIMITS) if "log_scales" in sizes else None
        network = BlockedNetwork(p["basis"], start, layers)
        return rest, NetworkOffsets(network, appearance, (_TRANSLATION_M, _ROTATION_RAD), grown)

    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.mlp if isinstance(layer, nn.Linear)]

    def regularizers(self) -> dict[str, Tensor]:
        penalties, p = super().regularizers(), self.per_gaussian
        if "basis" in p:
            penalties["basis"] = p["basis"].square().mean()
        return penalties


def _unlimited(expressions: int) -> Tensor:
    """Limits [2, E] that no coefficient reaches."""
    return torch.tensor([[-1e3], [1e3]]).repeat(1, expressions)


def _unlimited_where_missing(avatar: HeadGaS, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state is loaded: earlier versions limited codes alone, not what they are made of."""
    state.setdefault(f"{prefix}expression_limits", _unlimited(avatar.num_expressions))


def _make_mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(inputs, hidden), nn.ReLU()]
        inputs = hidden
    last = nn.Linear(inputs, outputs)
    # A quiet start: the first images show the biases, not noise.
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules, last)
