"""What every avatar is: a pure function from a head state and an eye to a Gaussian cloud in the
head frame."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from likeness.fitting.avatars.anchoring import Anchoring, AnchoringConfig
from likeness.ops import blend, deform, fused_deform, unit_quaternions
from likeness.ops.threads import suit_kernels
from likeness.scene.bounds import RatePair
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.scene.tensor_files import Array


@dataclasses.dataclass(frozen=True)
class AvatarShape:
    """The sizes that an avatar's tensors depend on."""

    num_gaussians: int
    num_expressions: int
    num_joints: int
    num_rig_vertices: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingStates:
    """What an avatar may learn about the driving signal before the fit: statistics of the training
    frames.

    expressions: [T, E]. T_head_body: [T, 4, 4].
    """

    expressions: Tensor
    T_head_body: Tensor


LOG_SCALE_LIMITS = (-11.5, -2.3)
"""Logarithms of the standard deviations that are drawn: 10 µm to 10 cm."""
_LARGE_LOG_SCALE = math.log(0.01)  # metres: larger Gaussians are penalised, where that is asked for


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


def bounded_scales(log_scales: Tensor) -> Tensor:
    """Standard deviations in metres of logarithms, whatever these are."""
    return log_scales.clamp(*LOG_SCALE_LIMITS).exp()


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


class AvatarModel(nn.Module):
    """Base of all avatars. Subclasses define ``canonical``; ``forward`` adds what is common to all
    of them.

    All have means, log_scales and quats, which densification reads. ``per_gaussian`` holds every
    parameter whose first dimension is N, the number of Gaussians, and nothing else: it is what
    densification may resize. All other parameters are shared.

    The forward pass is pure: no step counter, no hidden current frame. A frame is what ``state``
        and ``eye`` say.
    """

    kind: str
    #: The dataclass of its settings.
    Config: type[Any]
    config: Any
    #: Names in ``per_gaussian`` of unit vectors: they stay on the sphere of their last dimension.
    spherical: tuple[str, ...] = ()
    #: Whether the cloud of a fixed state changes with ``eye``; tells playback what it may cache.
    view_dependent: bool = False

    def __init__(self, shape: AvatarShape, anchoring: AnchoringConfig) -> None:
        super().__init__()
        self.num_expressions = shape.num_expressions
        self.num_joints = shape.num_joints
        self.per_gaussian = nn.ParameterDict()
        self._frozen: dict[str, Tensor | None] | None = None
        self._rig_table: Tensor | None = None  # of a frozen avatar that is not on a CPU
        self._placer: fused_deform.FusedDeformer | None = (
            None  # of a frozen avatar that has one, on a CPU
        )
        self._evaluators: dict[str, Callable[[list[Tensor]], Tensor]] = {}  # of a frozen avatar
        self.anchoring = Anchoring(anchoring, shape.num_expressions)
        if anchoring.two_frames:
            self.per_gaussian["head_logits"] = nn.Parameter(torch.zeros(shape.num_gaussians))
        if anchoring.rigged:
            binding = RigBinding.empty(
                shape.num_gaussians, shape.num_expressions, shape.num_rig_vertices
            )
            self.register_buffer("rig_shapes", binding.shapes)
            self.per_gaussian["rig_vertices"] = nn.Parameter(binding.vertices, requires_grad=False)
            self.per_gaussian["rig_weights"] = nn.Parameter(binding.weights, requires_grad=False)
        self.per_gaussian["means"] = nn.Parameter(torch.zeros(shape.num_gaussians, 3))
        self.per_gaussian["log_scales"] = nn.Parameter(torch.full((shape.num_gaussians, 3), -6.0))
        self.per_gaussian["quats"] = nn.Parameter(
            torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(shape.num_gaussians, 1)
        )

    @property
    def num_gaussians(self) -> int:
        return next(iter(self.per_gaussian.values())).shape[0]

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
            arrays[prefix + name] = array
        corners = f"{prefix}per_gaussian.rig_vertices"
        if corners in arrays:
            last = self.get_buffer("rig_shapes").shape[1] - 1
            arrays[corners] = dataclasses.replace(arrays[corners], low=0, high=last)
        return arrays

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters that do not belong to single Gaussians, by name."""
        return {
            name: p for name, p in self.named_parameters() if not name.startswith("per_gaussian.")
        }

    def initialize(self, seeds: Seeds, states: TrainingStates) -> None:
        """Starts from seeds as many as the avatar has Gaussians."""
        with torch.no_grad():
            if "head_logits" in self.per_gaussian:
                self.per_gaussian["head_logits"].copy_(
                    torch.logit(seeds.head_weights.clamp(0.02, 0.98))
                )
            if self.anchoring.config.rigged:
                self.rig_shapes.copy_(seeds.rig.shapes)
                self.per_gaussian["rig_vertices"].copy_(seeds.rig.vertices)
                self.per_gaussian["rig_weights"].copy_(seeds.rig.weights)
            self.per_gaussian["means"].copy_(seeds.cloud.means)
            self.per_gaussian["log_scales"].copy_(seeds.cloud.scales.log())
            self.per_gaussian["quats"].copy_(seeds.cloud.quats)
            self.anchoring.observe(states)

    def canonical(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The clouds [*b, N] of states [*b] before anchoring, in the head frame: what a subclass
        defines. A frozen avatar takes one state []."""
        raise NotImplementedError

    def codes(self, state: HeadState) -> Tensor | None:
        """What ``parts`` are evaluated for, [*b, B]; None where they are the same for all
        states."""
        return None

    def parts(
        self,
    ) -> tuple[fused_deform.CanonicalGaussians, fused_deform.NetworkOffsets | None] | None:
        """What playback on a CPU makes clouds of in one sweep (``likeness.ops.fused_deform``): the
        same as ``canonical`` to rounding. None: it has no such form, and is evaluated by
        ``canonical``."""
        return None

    def forward(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The Gaussian cloud [*b, N] in the head frame for states [*b] and camera centres ``eye``
        [*b, 3] in it."""
        batch = state.batch_shape
        if not batch and self._placer is not None and not self._evaluators:
            corrected = self.anchoring.config.pose_correction
            return self._placer(
                self.codes(state), state, self.anchoring.pose_delta(state) if corrected else None
            )
        if not batch or self._frozen is None:
            return self.placed(self.canonical(state, eye), state)
        # What a frozen avatar remembers is for one state.
        states = state.map(lambda t: t.reshape(-1, *t.shape[len(batch) :]))
        eyes = eye.expand(*batch, 3).reshape(-1, 3)
        clouds = [self(states[index], eyes[index]) for index in range(len(eyes))]
        return GaussianCloud.stack(clouds).map(lambda values: values.unflatten(0, batch))

    def placed(self, cloud: GaussianCloud, state: HeadState) -> GaussianCloud:
        """A canonical cloud [*b, N] of states [*b], moved by the rig, the two frames and the pose
        correction."""
        displacement, rig = None, self.rig()
        if self._rig_table is not None and not state.batch_shape:
            displacement = blend.blend_by_code(self._rig_table, state.expression).view(-1, 3)
        elif rig is not None:
            displacement = deform.displacement(state.expression, rig)
        return self.anchoring(cloud, state, self.head_weights(), displacement)

    def rig(self) -> RigBinding | None:
        """How its Gaussians are bound to the head model's mesh; None where they are not."""
        if not self.anchoring.config.rigged:
            return None
        p = self.per_gaussian
        return RigBinding(self.rig_shapes, p["rig_vertices"], p["rig_weights"])

    def head_weights(self) -> Tensor | None:
        """How much each Gaussian [N] moves with the head, the rest with the body; None where all
        do."""
        if "head_logits" not in self.per_gaussian:
            return None
        return (
            torch.sigmoid(self.per_gaussian["head_logits"])
            if self._frozen is None
            else self._frozen["head_weights"]
        )

    def duplicate(self, move: Callable[[Tensor], Tensor]) -> AvatarModel:
        """A copy for looking at: its parameters and buffers are ``move`` of these, and want no
        gradients."""
        tensors: dict[int, object] = {id(self._evaluators): {}}
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            moved = move(tensor.detach())
            tensors[id(tensor)] = (
                nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else moved
            )
        return copy.deepcopy(self, tensors).eval()

    def subset(self, chosen: Tensor) -> AvatarModel:
        """A copy for looking at, with the Gaussians ``chosen`` [M] (indices) alone."""
        copied = self.duplicate(lambda tensor: tensor)
        copied._frozen = copied._rig_table = copied._placer = None
        for name, parameter in self.per_gaussian.items():
            copied.per_gaussian[name] = nn.Parameter(
                parameter.detach()[chosen], requires_grad=False
            )
        return copied

    def freeze(self) -> None:
        """Computes once what no state changes, for playback. From here on its parameters must stay
        as they are."""
        self._frozen, self._placer, self._evaluators, p = None, None, {}, self.per_gaussian
        with torch.no_grad():
            self._frozen = self.fixed() | {"head_weights": self.head_weights()}
            if suit_kernels(p["means"]):
                self._placer = self._make_placer()
            elif self.anchoring.config.rigged:
                # On a CPU few vertices are blended, which stay in the cache, and Gaussians look up
                # theirs.
                self._rig_table = deform.shapes_of_gaussians(self.rig())

    def _make_placer(self) -> fused_deform.FusedDeformer | None:
        parts, config = self.parts(), self.anchoring.config
        if parts is None:
            return None
        return fused_deform.FusedDeformer(
            *parts, head_weights=self.head_weights(), rig=self.rig(), swaying=config.swaying
        )

    def _lay_by_code(self, *names: str) -> None:
        """Frozen bases [N, B, f], by their names in ``per_gaussian``: the same numbers, code by
        code in memory, so that ``_blend_laid`` reads them in one sweep."""
        with torch.no_grad():
            for name in names:
                by_code = self.per_gaussian[name].transpose(0, 1).contiguous()
                self.per_gaussian[name] = nn.Parameter(by_code.transpose(0, 1), requires_grad=False)

    def _blend_laid(self, name: str, codes: Tensor) -> Tensor:
        """Σ_b codes[b] basis[:, b] [N, f] of a basis that was laid by code."""
        by_code = self.per_gaussian[name].transpose(0, 1).flatten(1)
        return blend.blend_by_code(by_code, codes).view(self.num_gaussians, -1)

    def networks(self) -> dict[str, nn.Module]:
        """Networks that are evaluated for every Gaussian, by name, as they are now: what another
        backend may evaluate in playback where it can represent them
        (``likeness.fitting.networks``)."""
        return {}

    def evaluate_by(self, evaluators: Mapping[str, Callable[[list[Tensor]], Tensor]]) -> None:
        """From here on a frozen avatar has these networks, by their names in ``networks``,
        evaluated so: inputs [N, *], which are to be laid side by side, to outputs [N, *]. All
        others are evaluated by itself."""
        if self._frozen is None:
            raise ValueError("evaluate_by: expected a frozen avatar; call freeze first")
        self._evaluators = dict(evaluators)

    def fixed(self) -> dict[str, Tensor]:
        """What depends on the parameters alone, by names of the subclass; see ``freeze``."""
        return {}

    def constants(self) -> dict[str, Tensor | None]:
        """``fixed``, from memory where the avatar is frozen."""
        return self.fixed() if self._frozen is None else self._frozen

    def warm_up(self) -> None:
        """Compiles what it needs, so that no fit or playback is held up."""
        if self._placer is not None:
            with torch.no_grad():
                self(HeadState.neutral(self.num_expressions, self.num_joints), torch.zeros(3))
        elif self.per_gaussian["means"].device.type == "cpu":
            blend.compile_kernels()
            unit_quaternions.compile_kernels()
            deform.compile_kernels()

    def advance(self, nominal: float) -> None:
        """Sets what goes with the course of a fit, as buffers; ``nominal`` is the iteration in the
        preset's units."""

    def base_colours(self) -> Tensor | None:
        """The constant harmonics [N, 3] that Gaussians have of their own whatever the state, as a
        view of a parameter: what an edit may change. None where a network alone gives colours."""
        return None

    def pictures(self) -> dict[str, Tensor]:
        """What it has learned that can be looked at, for reports: pictures [H, W, 3] in [0, 1] by
        name."""
        return {}

    def regularizers(self) -> dict[str, Tensor]:
        """Scalar penalties by name, unweighted; their weights belong to the loss's
        configuration."""
        return {
            "scale": (self.per_gaussian["log_scales"] - _LARGE_LOG_SCALE)
            .clamp_min(0)
            .square()
            .mean()
        }
