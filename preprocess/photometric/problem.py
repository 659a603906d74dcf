"""What is optimised, and one step of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.head_models.landmarks import IRIS_PAIRS, LID_PAIRS, LIP_PAIRS
from likeness.ops.adam import Adam, RowAdam
from likeness.preprocess.photometric.cloud import RATES, TrackingCloud, transforms
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.photometric.corrections import Corrections
from likeness.preprocess.photometric.image_error import image_errors
from likeness.preprocess.photometric.knots import Knots
from likeness.preprocess.photometric.steadying import steadied_states
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import COLUMNS, NUM_POINTS, ROWS
from likeness.scene.to_device import to_device
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import evenly_spread
from likeness.seeding.off_mesh import matte_seeds

if TYPE_CHECKING:
    from likeness.renderers import Renderer

_SEED = 0
_SEED_FRAMES = 12
_MESH_SHARE = 0.6
_OPACITY = 0.5
_WARM_STEPS = 20  # of the cloud alone: grey seeds must not push heads about
_FINAL_RATE = 0.1  # of the first one
_CLOUD_EPSILON, _CLOUD_BETAS = 1e-15, (0.9, 0.99)
_SWAY_EPSILON = 1e-5
_SWAY_UNIT_M = 0.01
_SWAY_FROM = 0.2  # of all steps: what poses can explain they shall explain first
_COARSE_UNTIL = 0.25  # of all steps: corrections are held at knots in time
_STIFFNESS = 1.0  # of the landmarks' poses to begin with: their jitter would take visits to lose
_UNSEEN = ("tongueOut",)


class Problem:
    """The cloud, corrections of all T frames' poses and their expressions (``Corrections``),
    secondary motion at knots in time [K, 2 C], and the optimizers of each."""

    def __init__(self, capture: Capture, config: PhotometricConfig, device: str) -> None:
        self.config, self._device = config, device
        times = capture.frames.times_s.tolist()
        self._initial = steadied_states(capture.states, times, _STIFFNESS).to(device)
        self._num_frames = len(capture.frames)
        width = capture.frames[0].camera.width
        divisor = max(1, 2 ** round(math.log2(width / config.size)))
        self._frames = FrameStore(capture, range(self._num_frames), device, held_at=divisor)
        self._cameras = capture.cameras.reduced(divisor).to(device)
        # Steps work in the tracked heads' frames: there, quaternions of head and body are near the
        # identity and can be blended.
        self._in_heads = self._cameras.in_frame(self._initial.T_world_head)
        self._T_head_body = self._initial.T_head_body
        first = FrameStore(capture, evenly_spread(capture.train, _SEED_FRAMES))
        seeding = SeedingConfig(config.num_gaussians, _MESH_SHARE, _SEED_FRAMES, _OPACITY)
        seeds = matte_seeds(capture, first, seeding, _SEED)
        self.cloud = TrackingCloud(seeds).to(device)
        groups = [{"params": [getattr(self.cloud, name)]} for name in RATES]
        self._adam = Adam(groups, eps=_CLOUD_EPSILON, betas=_CLOUD_BETAS)
        self._knots = Knots(times, config.sway_interval_s)
        self._sway = RowAdam(
            torch.zeros(self._knots.count, 2 * NUM_POINTS, device=device), _SWAY_EPSILON
        )
        names = capture.expression_names
        moving = torch.tensor([float(name not in _UNSEEN) for name in names], device=device)
        model = HEAD_MODELS[capture.head_model]()
        self._corrections = Corrections(
            self._initial.expression,
            times,
            config,
            moving,
            lambda expression: model.capped(expression.clamp(0, 1)),
        )
        shapes = model.shaped(capture.identity).expression_shapes()
        # Costs that are squares, summed up as x^T C x: what the gaps change by, and secondary
        # motion.
        gaps = ([*LID_PAIRS["left"], *LID_PAIRS["right"], *LIP_PAIRS], IRIS_PAIRS)
        at_landmarks = model.landmark_vertices(shapes)
        costs = (_gap_cost(at_landmarks, pairs) for pairs in gaps)
        self._gap_cost = sum(costs, torch.zeros(())).to(device)
        self._bend_cost = _bend_cost().to(device)

    @property
    def num_steps(self) -> int:
        return math.ceil(
            self.config.visits * self._num_frames / min(self.config.batch, self._num_frames)
        )

    def is_finite(self) -> bool:
        """Whether all that is optimised is."""
        tables = (self._sway.table, *self.cloud.parameters())
        return self._corrections.is_finite() and all(
            bool(torch.isfinite(table).all()) for table in tables
        )

    def head_corrections(self) -> Tensor:
        """[T, 4, 4] of the heads, in their own frames."""
        return transforms(self._corrections.poses[:, :6])

    def states(self) -> HeadState:
        """The states of all frames as they stand."""
        initial, corrections = self._initial, self._corrections.poses
        return dataclasses.replace(
            initial,
            expression=self._corrections.expressions,
            T_world_head=initial.T_world_head @ transforms(corrections[:, :6]),
            T_world_body=initial.T_world_body @ transforms(corrections[:, 6:]),
            secondary_motion=_sheet(self._knots.between(self._sway.table, range(self._num_frames))),
        )

    def step(self, number: int, renderer: Renderer) -> Tensor:
        """One step on ``batch`` frames: every frame is visited once per epoch. Returns the loss
        []."""
        config = self.config
        numbers = self._rows(number)
        (rows,) = to_device((numbers,), self._device)
        generator = torch.Generator().manual_seed(number)
        fade = 0.5 * (1 + math.cos(math.pi * number / self.num_steps))
        fade = _FINAL_RATE + (1 - _FINAL_RATE) * fade
        first_alone = math.ceil(_COARSE_UNTIL * self.num_steps)
        if number == first_alone:
            self._corrections.settle()
        coarse = number < first_alone
        correction, expression = self._corrections.of(numbers, coarse)
        around = self._knots.around(numbers.tolist())
        (knots,) = to_device((around,), self._device)
        at_knots = self._sway.table[knots].requires_grad_(config.sway_rate > 0)
        sway = self._knots.between(at_knots, numbers.tolist(), around)
        cloud = self.cloud(expression, correction, self._T_head_body[rows], _sheet(sway))
        (background,) = to_device((torch.rand(len(rows), 3, generator=generator),), self._device)
        loss = self._errors(numbers, cloud, self._in_heads[rows], background, renderer).mean()
        loss = loss + config.gap_weight * _quadratic(
            expression - self._initial.expression[rows], self._gap_cost
        )
        loss = loss + config.sway_weight * _quadratic(sway, self._bend_cost)
        loss.backward()
        for group, rate in zip(self._adam.param_groups, RATES.values()):
            group["lr"] = rate * (0.1 + 0.9 * fade)
        self._adam.step()
        self._adam.zero_grad()
        if number >= _WARM_STEPS:
            # The loss is a mean over the batch; a frame's own gradient must not depend on the
            # others.
            self._corrections.step(coarse, len(rows), fade)
            if at_knots.grad is not None and number >= _SWAY_FROM * self.num_steps:
                self._sway.step(knots, at_knots.grad * len(rows), config.sway_rate * fade)
        return loss.detach()

    @torch.no_grad()
    def errors(self, states: HeadState, renderer: Renderer) -> Tensor:
        """[T] mean absolute errors of the cloud's images, over black, of frames at these
        states."""
        states, result = states.to(self._device), []
        cameras, T_head_body = self._cameras.in_frame(states.T_world_head), states.T_head_body
        for rows in torch.arange(self._num_frames).split(self.config.batch):
            unmoved, black = (torch.zeros(len(rows), size, device=self._device) for size in (12, 3))
            cloud = self.cloud(
                states.expression[rows], unmoved, T_head_body[rows], states.secondary_motion[rows]
            )
            result.append(self._errors(rows, cloud, cameras[rows], black, renderer))
        return torch.cat(result).cpu()

    def state_dict(self) -> dict[str, Tensor]:
        """All that a later process needs to go on."""
        tensors = {f"cloud.{name}": value for name, value in self.cloud.state_dict().items()}
        tensors |= {
            f"corrections.{name}": value for name, value in self._corrections.state().items()
        }
        tensors |= {f"sway.{name}": value for name, value in self._sway.state().items()}
        tensors |= {f"adam.{name}": value for name, value in self._moments().items()}
        return tensors

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what ``state_dict`` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name[len(prefix) :]: value
                for name, value in tensors.items()
                if name.startswith(prefix)
            }

        self.cloud.load_state_dict(part("cloud."))
        self._corrections.load(part("corrections."))
        self._sway.load(part("sway."))
        for name, tensor in self._moments().items():
            tensor.copy_(tensors[f"adam.{name}"])

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": tensor
            for name in RATES
            for key, tensor in self._adam.state_of(getattr(self.cloud, name)).items()
        }

    def _rows(self, number: int) -> Tensor:
        """The frames [B] of a step, each at most once: the last of an epoch are followed by the
        next epoch's first."""
        batch, count = min(self.config.batch, self._num_frames), self._num_frames
        epoch, start = divmod(number * batch, count)
        order = _order(epoch, count)
        rows = order[start : start + batch]
        if len(rows) < batch:
            after = _order(epoch + 1, count)
            rows = torch.cat([rows, after[~torch.isin(after, rows)][: batch - len(rows)]])
        return rows

    def _errors(
        self,
        rows: Tensor,
        cloud: GaussianCloud,
        cameras: Camera,
        background: Tensor,
        renderer: Renderer,
    ) -> Tensor:
        """[B] of the frames ``rows`` (on the host) over background [B, 3]."""
        output = renderer.render(cloud, cameras)
        rgba = self._frames.rgba(rows.tolist())
        return image_errors(output.rgb, output.alpha, rgba, background, self.config.matte_weight)


def _sheet(rows: Tensor) -> Tensor:
    """[B, C, 2] metres from rows [B, 2 C] of the table of secondary motion."""
    return rows.unflatten(1, (-1, 2)) * _SWAY_UNIT_M


def _quadratic(rows: Tensor, cost: Tensor) -> Tensor:
    """The mean over rows x [B, n] of x^T C x."""
    return (rows @ cost * rows).sum() / len(rows)


def _gap_cost(shapes: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """[E, E], what changes of pairs of landmarks cost, from shapes [E, L, 3] in metres: the mean
    square of how far, in millimetres, one moves against the other."""
    one, other = torch.tensor(pairs).T
    gaps_mm = 1000 * (shapes[:, one] - shapes[:, other]).flatten(1)
    return gaps_mm @ gaps_mm.T / len(pairs)


def _bend_cost() -> Tensor:
    """[2 C, 2 C], what secondary motion costs: the mean square of its offsets and of the
    differences between neighbouring ones."""
    units = torch.eye(2 * NUM_POINTS).unflatten(1, (ROWS, COLUMNS, 2))
    differences = [units, units.diff(dim=1), units.diff(dim=2)]
    costs = (part.flatten(1) @ part.flatten(1).T / part[0].numel() for part in differences)
    return sum(costs, torch.zeros(()))


def _order(epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
