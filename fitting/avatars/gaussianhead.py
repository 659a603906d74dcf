"""GaussianHead (Wang et al., TVCG 2025): deformed Gaussians that read their appearance from a
tri-plane at several places.

An MLP moves, rotates and scales each Gaussian with the expression (equation 3). The moved Gaussian
looks itself up in a multi-resolution tri-plane once per derivation: K unit quaternions of its own
rotate the query point about the scene's centre, and derivation k reads its own 1/K of the channels
(equation 4). Two small MLPs turn what was read into opacity and, with the view direction, into
spherical harmonics (equations 6 and 7).
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import bent_pose
from likeness.fitting.avatars.base import (
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
from likeness.fitting.avatars.deformation import Deformation
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.encoding import encode, encoded_size
from likeness.ops.triplane import TriPlane
from likeness.scene.bounds import (
    CountOrZero,
    Degree,
    Frequencies,
    LargeCount,
    Positive,
    RatePair,
    Size,
    SmallCount,
)
from likeness.scene.cloud import GaussianCloud
from likeness.scene.extent import SCENE_CENTRE_M, SCENE_RADIUS_M
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import (
    invert_transform,
    multiply_quats,
    normalize_quats,
    quats_to_matrices,
    transform_points,
)

_MAX_PLANES = 1 << 28  # features of all planes: 1 GiB, four times that in a fit
# of equation 12: doublings that are still to come as the fit begins, counting from 1
_SCHEDULE_START = 6


@dataclasses.dataclass(frozen=True)
class GaussianHeadRates(Rates):
    """Learning rates at the start and the end of the fit. The paper's text lost them; these are its
    program's, with lengths in metres (its box of 2.6 units is one of twice ``scene_radius``)."""

    means: RatePair = (1.5e-4, 1.5e-6)
    """Metres."""
    linear: tuple[str, ...] = ("means",)
    """Kinds of parameter whose rates fall linearly all the same."""
    deformation: RatePair = (8e-4, 1.6e-6)
    """The network that moves Gaussians."""
    planes: RatePair = (1e-3, 0.0)
    """The tri-plane."""
    derivations: RatePair = (1e-3, 0.0)
    """Quaternions that rotate the query points."""
    scene_derivations: RatePair = (1e-3, 0.0)
    """The same, where all Gaussians share them."""
    opacity_mlp: RatePair = (1e-4, 1e-4)
    """Features to opacity."""
    color_mlp: RatePair = (1e-3, 1e-3)
    """What follows it, up to the harmonics."""
    sh_dc: RatePair = (1e-3, 1e-3)
    """The harmonics' constant part."""
    sh_rest: RatePair = (5e-5, 5e-5)
    """Their other parts."""
    own_sh: RatePair = (2.5e-3, 2.5e-3)
    """Gaussians' own harmonics, without a tri-plane."""
    own_opacities: RatePair = (5e-2, 5e-2)
    """Gaussians' own opacity logits, without a tri-plane."""


@dataclasses.dataclass(frozen=True)
class GaussianHeadConfig(AvatarConfig):
    """The model of the paper and the switches of its ablations (Table 2, Figure 7)."""

    # the deformation computed in bfloat16: in files of before
    RETIRED: ClassVar = frozenset({"deform_bfloat16"})

    deformation: bool = True
    """Expressions move, rotate and scale the Gaussians; else the head is still."""
    deform_from: LargeCount = 3000
    """First iteration with it."""
    deform_width: Size = 256
    """Channels of its hidden layers."""
    deform_layers: SmallCount = 8
    """Hidden layers."""
    deform_skip: SmallCount = 4
    """Hidden layer that sees the input again."""
    encoding_frequencies: Frequencies = 10
    """Frequencies of the positional encoding of the mean."""
    deform_by_pose: bool = False
    """The network sees the joints and the body's pose beside the expression. The paper's equation 3
    has expressions alone, and lets the shoulders shake."""
    triplane: bool = True
    """Looks come from the tri-plane; else each Gaussian has opacity and harmonics of its own."""
    channels: Size = 32
    """Channels of the planes."""
    resolution: Size = 64
    """Cells along a side of the coarsest plane."""
    scales: tuple[SmallCount, ...] = (1, 2, 4, 8)
    """Finer planes, as multiples of it."""
    derivations: CountOrZero = 4
    """Derivations K of each Gaussian (paper: 1, 2, 4, 8, 16); 0: it is looked up where it is, in
    all channels."""
    derivation_schedule: bool = False
    """K grows with the number N of Gaussians, from 1 to ``derivations``: channels / 2^(6 - ⌈N / N
    at the start⌉), the paper's equation 12 as far as its text is preserved. The paper found it no
    better than 4."""
    derivation_kind: Literal["riemannian", "euclidean", "fixed", "scene"] = "riemannian"
    """How the quaternions are found. riemannian: by Adam on the sphere, the paper's. euclidean: by
    plain Adam. fixed: as they were drawn. scene: one set that all Gaussians share ("global
    rotation")."""
    shared_channels: bool = False
    """All derivations read the same 1/K of the channels, as the paper's program does, instead of
    one each."""
    hidden_size: Size = 64
    """Channels of the opacity and colour networks."""
    sh_degree: Degree = 3
    """Degree of the spherical harmonics of the colour, 0 to 3."""
    scene_radius: Positive = SCENE_RADIUS_M
    """Metres from the scene's centre to the sides of its box."""
    rates: GaussianHeadRates = GaussianHeadRates()
    """Learning rates."""

    def __post_init__(self) -> None:
        if self.derivations < 0 or self.channels % max(self.derivations, 1):
            raise ValueError(f"derivations: expected 0 or a divisor of channels ({self.channels})")
        if self.derivation_schedule and not _is_power_of_two(self.derivations):
            raise ValueError(
                "derivations: expected a power of two with derivation_schedule, "
                f"got {self.derivations}"
            )
        if not 0 < self.deform_skip < self.deform_layers:
            raise ValueError(f"deform_skip: expected a layer from 1 to {self.deform_layers - 1}")
        size = sum(3 * (self.resolution * scale) ** 2 for scale in self.scales) * self.channels
        if self.triplane and size > _MAX_PLANES:
            raise ValueError(
                f"resolution, scales, channels: expected at most {_MAX_PLANES} features, got {size}"
            )


class GaussianHead(AvatarModel):
    """See the module."""

    kind = "gaussianhead"
    view_dependent = True
    Config = GaussianHeadConfig
    config: GaussianHeadConfig
    deforming: Tensor
    centre: Tensor
    derivation_counts: Tensor

    def __init__(self, config: GaussianHeadConfig, shape: AvatarShape) -> None:
        super().__init__(config, shape)
        count, p = shape.num_gaussians, self.per_gaussian
        self._num_sh = spherical_harmonics.num_coefficients(config.sh_degree)
        self.register_buffer("deforming", torch.tensor(True))
        self.register_buffer("centre", torch.tensor(SCENE_CENTRE_M), persistent=False)
        # What the buffers say: to ask a GPU for it would make the host wait.
        self._deforms, self._counts = True, (count, config.derivations)
        self.register_load_state_dict_post_hook(_read_buffers)
        if config.deformation:
            condition = shape.num_expressions + (3 * shape.num_joints + 6) * config.deform_by_pose
            self.deformation = Deformation(
                encoded_size(3, config.encoding_frequencies),
                condition,
                config.deform_width,
                config.deform_layers,
                config.deform_skip,
            )
        if not config.triplane:
            p["own_sh"] = nn.Parameter(torch.zeros(count, self._num_sh, 3))
            p["own_opacities"] = nn.Parameter(torch.zeros(count))
            return
        if config.derivations:
            if config.derivation_kind == "scene":
                self.scene_derivations = nn.Parameter(_unit_quats(config.derivations))
            else:
                drawn = _unit_quats(count * config.derivations)
                p["derivations"] = nn.Parameter(
                    drawn.reshape(count, config.derivations, 4),
                    requires_grad=config.derivation_kind != "fixed",
                )
            if config.derivation_schedule:  # N at the start, and K as it is now
                self._counts = count, 1
                self.register_buffer("derivation_counts", torch.tensor(self._counts))
        hidden = config.hidden_size
        self.planes = TriPlane(config.channels, config.resolution, config.scales)
        self.opacity_mlp = nn.Sequential(
            nn.Linear(config.channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1 + hidden),
        )
        self.color_mlp = nn.Sequential(
            nn.Linear(hidden + 3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.sh_dc = nn.Linear(hidden, 3)
        if self._num_sh > 1:
            self.sh_rest = nn.Linear(hidden, 3 * (self._num_sh - 1))

    @property
    def spherical(self) -> tuple[str, ...]:
        learned = self.config.derivation_kind == "riemannian" and "derivations" in self.per_gaussian
        return ("derivations",) if learned else ()

    @torch.no_grad()
    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        super().initialize(seeds, states)
        p, cloud = self.per_gaussian, seeds.cloud
        opacity = torch.logit(cloud.opacities.clamp(0.01, 0.99))
        if not self.config.triplane:
            p["own_sh"].zero_()
            p["own_sh"][:, 0] = cloud.sh[:, 0]
            p["own_opacities"].copy_(opacity)
            return
        # Products of planes are small and alike at the start: the first layer sees them
        # standardised, so that they tell Gaussians apart from the first step on.
        layers = [layer for layer in self.opacity_mlp if isinstance(layer, nn.Linear)]
        features, first, last = self.features(cloud.means), layers[0], layers[-1]
        first.weight.div_(features.std(0).clamp_min(1e-4))
        first.bias.sub_(first.weight @ features.mean(0))
        # The first image shows the mean colour, not noise.
        last.weight.mul_(0.1)
        last.bias[0] = opacity.mean()
        self.sh_dc.weight.mul_(0.1)
        self.sh_dc.bias.copy_(cloud.sh[:, 0].mean(0))
        if self._num_sh > 1:
            self.sh_rest.weight.mul_(0.1)
            self.sh_rest.bias.zero_()

    def networks(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {}
        if self.config.deformation:
            networks["deformation"] = self.deformation
        if self.config.triplane:
            networks["opacity_mlp"] = self.opacity_mlp
            networks["color_mlp"] = nn.Sequential(*self.color_mlp, self._sh_layer())
        return networks

    def evaluators(self) -> dict[str, Network]:
        def colours(inputs: list[Tensor]) -> Tensor:
            hidden = self.color_mlp(torch.cat(inputs, -1))
            return torch.cat([layer(hidden) for layer in self._sh_layers()], -1)

        return {"opacity_mlp": lambda inputs: self.opacity_mlp(*inputs), "color_mlp": colours}

    def _sh_layers(self) -> list[nn.Linear]:
        return [self.sh_dc, self.sh_rest] if self._num_sh > 1 else [self.sh_dc]

    @torch.no_grad()
    def _sh_layer(self) -> nn.Linear:
        """The layers of the harmonics as one."""
        weight = torch.cat([part.weight for part in self._sh_layers()])
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta").requires_grad_(False)
        layer.weight = nn.Parameter(weight, False)
        layer.bias = nn.Parameter(torch.cat([part.bias for part in self._sh_layers()]), False)
        return layer

    def advance(self, nominal: float) -> None:
        deforms = nominal >= self.config.deform_from
        if deforms is not self._deforms:
            self._deforms = deforms
            self.deforming.fill_(deforms)
        if "derivation_counts" in self._buffers:
            self._grow_derivations()

    @torch.no_grad()
    def _grow_derivations(self) -> None:
        """Doubles K as often as the schedule says. Each derivation passes its quaternion on to
        those that take its channels over with it, so that nothing changes at first."""
        config, (start, before) = self.config, self._counts
        halvings = max(_SCHEDULE_START - math.ceil(self.num_gaussians / start), 0)
        wanted = min(max(config.channels >> halvings, 1), config.derivations)
        if wanted <= before:
            return
        families = self._derivations().detach().unflatten(-2, (before, -1))
        families.copy_(families[..., :1, :].clone().expand_as(families))
        self._counts = start, wanted
        self.derivation_counts.copy_(torch.tensor(self._counts))

    def _derivations(self) -> Tensor:
        """The quaternions [N, K, 4], or [K, 4] where all Gaussians share them."""
        if self.config.derivation_kind == "scene":
            return self.scene_derivations
        return self.per_gaussian["derivations"]

    def canonical(self, state: HeadState, eye: Tensor, backend: Backend) -> GaussianCloud:
        p, c, batch = self.per_gaussian, backend.constants, state.batch_shape
        means, quats, scales = p["means"], c["quats"], c["scales"]
        if "encoded" in c:
            offsets = self.deformation(c["encoded"], self._condition(state))
            translation, rotation, log_scales = offsets
            means = means + translation * self.config.scene_radius
            rotation = torch.cat([rotation[..., :1] + 1, rotation[..., 1:]], -1)
            quats = multiply_quats(normalize_quats(rotation), quats)
            scales = bounded_scales(p["log_scales"] + log_scales)
        if not self.config.triplane:
            opacities, sh = torch.sigmoid(p["own_opacities"]), p["own_sh"]
            return cloud_of(batch, means, quats, scales, opacities, sh)
        means = means.expand(*batch, -1, 3) if batch else means
        outputs = backend.networks["opacity_mlp"]([self.features(means)])
        logits, latent = outputs.split([1, self.config.hidden_size], -1)
        view = self._views(means, state, eye, c.get("head_weights"))
        sh = backend.networks["color_mlp"]([torch.relu(latent), view])
        sh, opacities = sh.unflatten(-1, (self._num_sh, 3)), torch.sigmoid(logits[..., 0])
        return cloud_of(batch, means, quats, scales, opacities, sh)

    def constants(self) -> dict[str, Tensor]:
        constants = super().constants()
        if self.config.deformation and self._deforms:
            means = self._normalized(self.per_gaussian["means"]).detach()
            constants["encoded"] = encode(means, self.config.encoding_frequencies)
        return constants

    def _normalized(self, means: Tensor) -> Tensor:
        return (means - self.centre) / self.config.scene_radius

    def _condition(self, state: HeadState) -> Tensor:
        """What the deformation depends on, as one vector for each state."""
        if not self.config.deform_by_pose:
            return state.expression
        return torch.cat([state.expression, bent_pose(state)], -1)

    def features(self, means: Tensor) -> Tensor:
        """What Gaussians at (deformed) means [*b, N, 3] read from the tri-plane, [*b, N,
        channels]."""
        config, query = self.config, self._normalized(means)
        places, (_, copies) = means.shape[:-1], self._counts
        if not copies:
            return self.planes(query.reshape(-1, 1, 3)).reshape(*places, config.channels)
        # the first of each family
        quats = normalize_quats(self._derivations()[..., :: config.derivations // copies, :])
        rotated = (quats_to_matrices(quats) @ query[..., None, :, None])[..., 0]
        read = self.planes(rotated.reshape(-1, copies, 3), config.shared_channels)
        return read.reshape(*places, config.channels)

    def _views(
        self, means: Tensor, state: HeadState, eye: Tensor, head_weights: Tensor | None
    ) -> Tensor:
        """Unit view directions [*b, N, 3] of Gaussians at canonical means [*b, N, 3], in the frame
        that each is anchored in."""
        eye = eye[..., None, :]
        toward = means - eye
        if head_weights is not None:
            from_body = means - transform_points(invert_transform(state.T_head_body), eye)
            toward = from_body + head_weights[:, None] * (toward - from_body)
        return torch.nn.functional.normalize(toward, dim=-1)

    @torch.no_grad()
    def images(self) -> dict[str, Tensor]:
        """The planes of each scale side by side (xy, xz, yz): three principal components of the
        channels as colours."""
        images: dict[str, Tensor] = {}
        levels = self.planes.levels if self.config.triplane else ()
        for scale, level in zip(self.config.scales, levels):
            values = level.flatten(0, 2) - level.flatten(0, 2).mean(0)
            _, axes = torch.linalg.eigh(values.T @ values)
            colours = values @ axes[:, -3:]
            sample = colours[:: max(1, len(colours) // 100_000)]
            low, high = (torch.quantile(sample, share, 0) for share in (0.02, 0.98))
            colours = ((colours - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
            images[f"planes_{scale}"] = torch.cat(list(colours.reshape(*level.shape[:3], 3)), 1)
        return images


def _read_buffers(avatar: GaussianHead, _: object) -> None:
    """After a state was loaded."""
    avatar._deforms = bool(avatar.deforming)
    if "derivation_counts" in avatar._buffers:
        start, count = avatar._counts = tuple(avatar.derivation_counts.tolist())
        if start < 1 or not _is_power_of_two(count) or count > avatar.config.derivations:
            raise ValueError(
                f"derivation_counts: expected Gaussians and a power of two, got {start} and {count}"
            )


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _unit_quats(count: int) -> Tensor:
    """Uniform on the sphere, by the global generator."""
    return torch.nn.functional.normalize(torch.randn(count, 4), dim=-1)
