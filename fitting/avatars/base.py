"""What every avatar is: a pure function from a head state and an eye to a Gaussian cloud in the
head frame, as it is fitted (``AvatarModel``) and as it is played (``FrozenAvatar``)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import Anchoring, AnchoringConfig
from likeness.ops.blend import BlendBasis, blend_by_code
from likeness.ops.deform import displacement
from likeness.ops.fused_deform import CanonicalGaussians, FusedDeformer, NetworkOffsets
from likeness.ops.rig_changes import changed
from likeness.ops.threads import suit_kernels
from likeness.ops.unit_quaternions import unit_quats
from likeness.scene.bounds import RatePair
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.rig_binding import CHANGES, RigBinding
from likeness.scene.seeds import Seeds
from likeness.scene.tensor_files import Array

LOG_SCALE_LIMITS = (-11.5, -2.3)
"""Logarithms of the standard deviations that are drawn: 10 µm to 10 cm."""
_LARGE_LOG_SCALE = math.log(0.01)  # metres: larger Gaussians are penalised, where that is asked for


@dataclasses.dataclass(frozen=True)
class AvatarShape:
    """The sizes that an avatar's tensors depend on."""

    num_gaussians: int
    num_expressions: int
    num_joints: int
    num_rig_vertices: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingStates:
    """What an avatar may learn about the driving signal before the fit: the training frames'
    expressions [T, E] and T_head_body [T, 4, 4]."""

    expressions: Tensor
    T_head_body: Tensor


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates at the start and the end of the fit by kind of parameter: a per-Gaussian
    parameter's name, or the first part of a shared one's name. Between the two they fall
    log-linearly, linearly where they end at 0. These are common to all avatars."""

    means: RatePair = (1.6e-4, 1.6e-6)
    """Metres."""
    log_scales: RatePair = (5e-3, 5e-3)
    """Logarithms of the standard deviations."""
    quats: RatePair = (1e-3, 1e-3)
    """Rotations."""
    head_logits: RatePair = (2e-2, 2e-3)
    """Weights between head and body."""
    anchoring: RatePair = (1e-3, 1e-4)
    """Pose correction; 1 is 0.1 rad or 1 cm."""
    linear: tuple[str, ...] = ()
    """Kinds of parameter whose rates fall linearly all the same."""


@dataclasses.dataclass(frozen=True)
class AvatarConfig:
    """Settings that all avatars have."""

    anchoring: AnchoringConfig = AnchoringConfig()
    """Two frames, the rig, secondary motion and pose correction: not of the papers."""
    rates: Rates = Rates()
    """Learning rates."""


Model = TypeVar("Model", bound="AvatarModel")
Network = Callable[[list[Tensor]], Tensor]
"""Inputs [*b, N, *], which it lays side by side, to outputs [*b, N, O]."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """What evaluates the parts of a cloud: with gradients in a fit, prepared once for playback.

    constants: what no state changes, by the names of ``AvatarModel.constants``.
    networks: those that every Gaussian is put through, by name.
    blend: name in ``per_gaussian`` of a basis [N, B, f], and codes [*b, B], to Σ_b codes_b basis_b
        [*b, N, f].
    """

    constants: dict[str, Tensor]
    networks: Mapping[str, Network]
    blend: Callable[[str, Tensor], Tensor]


class AvatarModel(nn.Module):
    """Base of all avatars. Subclasses define ``canonical``; ``forward`` adds what is common to all
    of them. The forward pass is pure: no step counter, no hidden current frame.

    All have means, log_scales and quats, which densification reads. ``per_gaussian`` holds every
    parameter whose first dimension is N, the number of Gaussians, and nothing else: it is what
    densification may resize. All other parameters are shared.
    """

    kind: ClassVar[str]
    #: The dataclass of its settings.
    Config: ClassVar[type[AvatarConfig]]
    #: Names in ``per_gaussian`` of the bases [N, B, f] that codes blend.
    bases: ClassVar[tuple[str, ...]] = ()
    #: Whether the cloud of a fixed state changes with ``eye``; tells playback what it may cache.
    view_dependent: ClassVar[bool] = False
    config: AvatarConfig
    rig_shapes: Tensor
    rig_changes: Tensor

    def __init__(self, config: Any, shape: AvatarShape) -> None:
        super().__init__()
        self.config, count = config, shape.num_gaussians
        self.num_expressions, self.num_joints = shape.num_expressions, shape.num_joints
        self.per_gaussian = p = nn.ParameterDict()
        self.anchoring = Anchoring(config.anchoring, shape.num_expressions)
        if config.anchoring.two_frames:
            p["head_logits"] = nn.Parameter(torch.zeros(count))
        if config.anchoring.rigged:
            binding = RigBinding.empty(count, shape.num_expressions, shape.num_rig_vertices)
            self.register_buffer("rig_shapes", binding.shapes)
            self.register_buffer("rig_changes", _unchanged(binding.shapes))
            self.register_load_state_dict_pre_hook(_unchanged_where_missing)
            p["rig_vertices"] = nn.Parameter(binding.vertices, requires_grad=False)
            p["rig_weights"] = nn.Parameter(binding.weights, requires_grad=False)
        p["means"] = nn.Parameter(torch.zeros(count, 3))
        p["log_scales"] = nn.Parameter(torch.full((count, 3), -6.0))
        p["quats"] = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1))

    @property
    def spherical(self) -> tuple[str, ...]:
        """Names in ``per_gaussian`` of unit vectors: they stay on the sphere of their last
        dimension."""
        return ()

    @property
    def num_gaussians(self) -> int:
        return len(self.per_gaussian["means"])

    @property
    def shows_unseen(self) -> bool:
        """Whether expressions that no training frame had are those of the head model, and not what
        a network makes of them."""
        return False

    @property
    def rig(self) -> RigBinding | None:
        """What ties its Gaussians to the head model; None where nothing does."""
        p = self.per_gaussian
        if not self.config.anchoring.rigged:
            return None
        return RigBinding(self.rig_shapes, p["rig_vertices"], p["rig_weights"], self.rig_changes)

    def resize(self, num_gaussians: int) -> None:
        """Gives every per-Gaussian parameter so many rows; their values are to be loaded next."""
        for parameter in self.per_gaussian.values():
            parameter.data = parameter.data.new_zeros(num_gaussians, *parameter.shape[1:])

    def declared(self, prefix: str = "") -> dict[str, Array]:
        """What a file must hold under its names, after ``prefix``, for ``load_state_dict``: of any
        number N of Gaussians, and all else as it stands here."""
        arrays = {}
        for name, value in self.state_dict().items():
            array = Array.like(value)
            if name.startswith("per_gaussian."):
                array = dataclasses.replace(array, shape=("N", *array.shape[1:]))
            if name == "per_gaussian.rig_vertices":
                array = dataclasses.replace(array, low=0, high=self.rig_shapes.shape[1] - 1)
            if name == "rig_changes":  # earlier versions had none
                array = dataclasses.replace(array, optional=True)
            arrays[prefix + name] = array
        return arrays

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters that do not belong to single Gaussians, by name."""
        return {
            name: p for name, p in self.named_parameters() if not name.startswith("per_gaussian.")
        }

    @torch.no_grad()
    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        """Starts from seeds as many as the avatar has Gaussians."""
        values = {
            "means": seeds.cloud.means,
            "log_scales": seeds.cloud.scales.log(),
            "quats": seeds.cloud.quats,
            "head_logits": torch.logit(seeds.head_weights.clamp(0.02, 0.98)),
            "rig_vertices": seeds.rig.vertices,
            "rig_weights": seeds.rig.weights,
        }
        for name, value in values.items():
            if name in self.per_gaussian:
                self.per_gaussian[name].copy_(value)
        if self.config.anchoring.rigged:
            self.rig_shapes.copy_(seeds.rig.shapes)
            if seeds.rig.changes is not None:
                self.rig_changes.copy_(seeds.rig.changes)
        self.anchoring.observe(states.expressions, states.T_head_body)

    def constants(self) -> dict[str, Tensor]:
        """What depends on the parameters alone, by names that ``canonical`` reads."""
        p = self.per_gaussian
        constants = {"quats": unit_quats(p["quats"]), "scales": bounded_scales(p["log_scales"])}
        if (weights := self.head_weights()) is not None:
            constants["head_weights"] = weights
        return constants

    def canonical(self, state: HeadState, eye: Tensor, backend: Backend) -> GaussianCloud:
        """The clouds [*b, N] of states [*b] before anchoring, in the head frame: what a subclass
        defines."""
        raise NotImplementedError

    def codes(self, state: HeadState) -> Tensor | None:
        """What ``fused_parts`` are evaluated for, [*b, B]; None where all states have the same."""
        return None

    def fused_parts(
        self, constants: dict[str, Tensor]
    ) -> tuple[CanonicalGaussians, NetworkOffsets | None] | None:
        """What playback on a CPU makes clouds of in one sweep (``likeness.ops.fused_deform``): the
        same as ``canonical`` to rounding. None: it has no such form."""
        return None

    def networks(self) -> Mapping[str, nn.Module]:
        """Networks that are evaluated for every Gaussian, by name, as they are now: what another
        backend may evaluate in playback (``likeness.fitting.networks``)."""
        return {}

    def evaluators(self) -> Mapping[str, Network]:
        """The same networks with gradients, as ``canonical`` calls them."""
        return {}

    def backend(self) -> Backend:
        """What evaluates it with gradients, as its parameters are now."""

        def blend(name: str, codes: Tensor) -> Tensor:
            return BlendBasis.apply(self.per_gaussian[name], codes)

        return Backend(self.constants(), self.evaluators(), blend)

    def forward(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The Gaussian cloud [*b, N] in the head frame for states [*b] and camera centres ``eye``
        [*b, 3] in it."""
        backend = self.backend()
        return self.placed(self.canonical(state, eye, backend), state, backend)

    def placed(self, cloud: GaussianCloud, state: HeadState, backend: Backend) -> GaussianCloud:
        """A canonical cloud [*b, N] of states [*b], changed and moved by the rig, then moved by
        secondary motion, the two frames and the pose correction."""
        rig, moved = self.rig, None
        if rig is not None:
            moved = displacement(state.expression, rig)
            cloud = changed(cloud, state.expression, rig)
        return self.anchoring(cloud, state, backend.constants.get("head_weights"), moved)

    def head_weights(self) -> Tensor | None:
        """How much each Gaussian [N] moves with the head, the rest with the body; None where all
        do."""
        logits = self.per_gaussian.get("head_logits")
        return None if logits is None else torch.sigmoid(logits)

    def duplicate(self: Model, move: Callable[[Tensor], Tensor]) -> Model:
        """A copy for looking at: its parameters and buffers are ``move`` of these, and want no
        gradients."""
        tensors: dict[int, Any] = {}
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            moved = move(tensor.detach())
            is_parameter = isinstance(tensor, nn.Parameter)
            tensors[id(tensor)] = nn.Parameter(moved, False) if is_parameter else moved
        return copy.deepcopy(self, tensors).eval()

    def subset(self: Model, chosen: Tensor) -> Model:
        """A copy for looking at, with the Gaussians ``chosen`` [M] (indices) alone."""
        copied = self.duplicate(lambda tensor: tensor)
        for name, parameter in self.per_gaussian.items():
            copied.per_gaussian[name] = nn.Parameter(parameter.detach()[chosen], False)
        return copied

    def compile(self, device: torch.device | str = "cpu") -> FrozenAvatar:
        """This avatar as it is now, for playback on a device."""
        return FrozenAvatar(self.duplicate(lambda tensor: tensor.to(device)))

    def warm_up(self) -> None:
        """Compiles what its clouds and their gradients need on a CPU (seconds, once; then kept on
        disk), so that no fit is held up: evaluates a copy with one Gaussian."""
        if self.per_gaussian["means"].device.type != "cpu":
            return
        single = self.subset(torch.zeros(1, dtype=torch.long))
        for name, parameter in self.named_parameters():
            single.get_parameter(name).requires_grad_(parameter.requires_grad)
        state = HeadState.neutral(self.num_expressions, self.num_joints)
        state = state.to(self.per_gaussian["means"].dtype)
        cloud = single(state, state.T_world_head[:3, 3])
        torch.stack([value.sum() for value in cloud.fields().values()]).sum().backward()

    def advance(self, nominal: float) -> None:
        """Sets what goes with the course of a fit, as buffers; ``nominal`` is the iteration in the
        preset's units."""

    def base_colours(self) -> Tensor | None:
        """The constant harmonics [N, 3] that Gaussians have of their own whatever the state, as a
        view of a parameter: what an edit may change. None where a network alone gives colours."""
        return None

    def base_opacities(self) -> Tensor | None:
        """The logits of opacity [N] likewise."""
        return None

    def images(self) -> dict[str, Tensor]:
        """What it has learned that can be looked at, for reports: images [H, W, 3] in [0, 1] by
        name."""
        return {}

    def regularizers(self) -> dict[str, Tensor]:
        """Scalar penalties by name, unweighted; their weights belong to the loss's
        configuration."""
        excess = (self.per_gaussian["log_scales"] - _LARGE_LOG_SCALE).clamp_min(0)
        return {"scale": excess.square().mean()}


class FrozenAvatar:
    """An avatar as it was when it was compiled, for playback on one device: from a state [] and an
    eye [3] in the head frame to the cloud [N]. What no state changes is computed once; nothing is
    trained."""

    #: Whether a call overwrites the clouds that earlier calls gave.
    overwrites = False

    @torch.no_grad()
    def __init__(self, model: AvatarModel) -> None:
        """model: on the device, without gradients. It belongs to this from here on, and must stay
        as it is."""
        self.model, self.kind, self.view_dependent = model, model.kind, model.view_dependent
        self.num_gaussians, p = model.num_gaussians, model.per_gaussian
        constants = model.constants()
        self.head_weights = constants.get("head_weights")
        networks = {name: _in_pytorch(network) for name, network in model.networks().items()}
        self._deformer = self._fused_deformer(constants) if suit_kernels(p["means"]) else None
        if self._deformer is not None:
            self._backend = Backend(constants, networks, model.backend().blend)
            return
        for name in model.bases:
            if name in p:  # code by code in memory, to be read in one sweep
                by_code = p[name].transpose(0, 1).contiguous()
                p[name] = nn.Parameter(by_code.transpose(0, 1), requires_grad=False)

        def blend(name: str, codes: Tensor) -> Tensor:
            table = p[name].transpose(0, 1).flatten(1)
            return blend_by_code(table, codes).view(len(p[name]), -1)

        self._backend = Backend(constants, networks, blend)

    def _fused_deformer(self, constants: dict[str, Tensor]) -> FusedDeformer | None:
        parts = self.model.fused_parts(constants)
        if parts is None:
            return None
        swaying = self.model.config.anchoring.swaying
        return FusedDeformer(
            *parts, head_weights=self.head_weights, rig=self.model.rig, swaying=swaying
        )

    def __call__(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        model = self.model
        if self._deformer is None:
            return model.placed(self.canonical(state, eye), state, self._backend)
        correction = None
        if model.config.anchoring.pose_correction:
            correction = model.anchoring.pose_delta(state)
        return self._deformer(model.codes(state), state, correction)

    def canonical(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The cloud [N] before the rig and the frames move it; see ``AvatarModel.canonical``."""
        return self.model.canonical(state, eye, self._backend)

    def with_networks(self, networks: Mapping[str, Network]) -> FrozenAvatar:
        """The same with these networks, by their names in ``AvatarModel.networks``, evaluated
        so."""
        other = copy.copy(self)
        other._deformer = None
        other._backend = dataclasses.replace(
            self._backend, networks={**self._backend.networks, **networks}
        )
        return other

    def warm_up(self) -> None:
        """Compiles what it needs, so that no playback is held up."""
        means = self.model.per_gaussian["means"]
        if means.device.type == "cpu":
            state = HeadState.neutral(self.model.num_expressions, self.model.num_joints)
            self(state.to(means.dtype), means.new_zeros(3))


def _unchanged(shapes: Tensor) -> Tensor:
    """Changes of a rig with these shapes [E, V, 3] that do nothing."""
    return shapes.new_zeros(*shapes.shape[:2], CHANGES)


def _unchanged_where_missing(
    avatar: AvatarModel, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Before a state is loaded: rigs of earlier versions only move."""
    state.setdefault(f"{prefix}rig_changes", _unchanged(avatar.rig_shapes))


def _in_pytorch(network: nn.Module) -> Network:
    return lambda inputs: network(torch.cat(inputs, -1))


def bounded_scales(log_scales: Tensor) -> Tensor:
    """Standard deviations in metres of logarithms, whatever these are."""
    return log_scales.clamp(*LOG_SCALE_LIMITS).exp()


def cloud_of(
    batch: tuple[int, ...],
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
) -> GaussianCloud:
    """The clouds of a batch from fields as ``GaussianCloud`` has them, some of which all states
    share ([N, ...])."""
    if batch:
        means, quats, scales, sh = (
            tensor.expand(*batch, *tensor.shape[-count:])
            for tensor, count in ((means, 2), (quats, 2), (scales, 2), (sh, 3))
        )
        opacities = opacities.expand(*batch, opacities.shape[-1])
    return GaussianCloud(means, quats, scales, opacities, sh)
