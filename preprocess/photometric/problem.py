"""What is optimised, and one step of it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from preprocess.head_models import HEAD_MODELS
from preprocess.photometric.cloud import TrackingCloud
from preprocess.photometric.config import PhotometricConfig
from preprocess.photometric.knots import Knots
from preprocess.photometric.row_adam import RowAdam
from preprocess.seeding import seeds_from_pictures
from preprocess.seeding.surface import spread
from preprocess.tracking.landmark_groups import LID_PAIRS, LIP_PAIRS
from scene.capture import Capture
from scene.head_state import HeadState
from scene.pictures import FrameStore
from scene.sending import sent
from scene.sway import COLUMNS, NUM_POINTS, ROWS
from scene.transforms import make_transform, rotvecs_to_matrices

if TYPE_CHECKING:
    from renderers import Renderer

_SEED = 0
_SEED_FRAMES = 12
_MESH_SHARE = 0.6
_OPACITY = 0.5
_WARM_STEPS = 20  # of the cloud alone: grey seeds must not push heads about
_FINAL_RATE = 0.05  # of the first one
_METRES = 0.1  # the unit of translations, so that they and radians move pixels alike
# Gradients are per frame of the mean error over its picture; these move nothing (noise, or what is out of sight).
_POSE_EPSILON, _EXPRESSION_EPSILON = 1e-4, 1e-5
_SWAY_EPSILON = 1e-5
_SWAY_UNIT_M = 0.01
_SWAY_FROM = 0.2  # of all steps: what poses can explain they shall explain first
_UNSEEN = ("tongueOut",)


class Problem:
    """The cloud, the corrections of all T frames' poses [T, 12] (rotation and translation of the head, then of the
    body, each in its own frame), their expressions [T, E], sway at knots in time [K, 2 C], and the optimizers of
    each."""

    def __init__(self, capture: Capture, config: PhotometricConfig, device: str) -> None:
        self.config, self._device = config, device
        self._initial = capture.states.to(device)
        self._num_frames = len(capture.frames)
        width = capture.frames[0].camera.width
        divisor = max(1, 2 ** round(math.log2(width / config.size)))
        self._frames = FrameStore(capture, range(self._num_frames), device, held_at=divisor)
        self._cameras = capture.cameras.reduced(divisor).to(device)
        first = FrameStore(capture, spread(capture.train, _SEED_FRAMES))
        seeds = seeds_from_pictures(capture, first, config.num_gaussians, _MESH_SHARE, _SEED_FRAMES, _OPACITY, _SEED)
        self.cloud = TrackingCloud(seeds).to(device)
        self._optimizer = torch.optim.Adam(self.cloud.parameter_groups(), betas=(0.9, 0.99), eps=1e-15)
        self._poses = RowAdam(torch.zeros(self._num_frames, 12, device=device), _POSE_EPSILON)
        self._expressions = RowAdam(self._initial.expression.clone(), _EXPRESSION_EPSILON)
        self._knots = Knots([frame.time_s for frame in capture.frames], config.sway_interval_s)
        self._sway = RowAdam(torch.zeros(self._knots.count, 2 * NUM_POINTS, device=device), _SWAY_EPSILON)
        names = capture.expression_names
        self._moving = torch.tensor([float(name not in _UNSEEN) for name in names], device=device)
        model = HEAD_MODELS[capture.head_model]()
        self._capped = model.capped
        at_landmarks = model.landmark_vertices(model.expression_basis)
        one, other = torch.tensor([*LID_PAIRS["left"], *LID_PAIRS["right"], *LIP_PAIRS]).T
        self._gaps_mm = 1000 * (at_landmarks[:, one] - at_landmarks[:, other]).flatten(1).to(device)
        self._num_pairs = len(one)

    @property
    def num_steps(self) -> int:
        return math.ceil(self.config.visits * self._num_frames / min(self.config.batch, self._num_frames))

    def is_finite(self) -> bool:
        """Whether all that is optimised is."""
        tables = (self._poses.table, self._expressions.table, self._sway.table, *self.cloud.parameters())
        return all(bool(torch.isfinite(table).all()) for table in tables)

    def head_corrections(self) -> Tensor:
        """[T, 4, 4] of the heads, in their own frames."""
        return _transforms(self._poses.table[:, :6])

    def states(self) -> HeadState:
        """The states of all frames as they stand."""
        initial, corrections = self._initial, self._poses.table
        return dataclasses.replace(
            initial,
            expression=self._expressions.table.clone(),
            T_world_head=initial.T_world_head @ _transforms(corrections[:, :6]),
            T_world_body=initial.T_world_body @ _transforms(corrections[:, 6:]),
            sway=_sheet(self._knots.between(self._sway.table, range(self._num_frames))),
        )

    def step(self, number: int, renderer: Renderer) -> Tensor:
        """One step on ``batch`` frames: every frame is visited once per epoch. Returns the loss []."""
        config = self.config
        numbers = self._rows(number)
        (rows,) = sent((numbers,), self._device)
        generator = torch.Generator().manual_seed(number)
        fade = 0.5 * (1 + math.cos(math.pi * number / self.num_steps))
        fade = _FINAL_RATE + (1 - _FINAL_RATE) * fade
        correction = self._poses.table[rows].requires_grad_()
        expression = self._expressions.table[rows].requires_grad_(config.expression_rate > 0)
        around = self._knots.around(numbers.tolist())
        (knots,) = sent((around,), self._device)
        at_knots = self._sway.table[knots].requires_grad_(config.sway_rate > 0)
        sway = self._knots.between(at_knots, numbers.tolist(), around)
        output = self._render(rows, correction, expression, sway, renderer)
        colour, matte = self._targets(numbers)
        (background,) = sent((torch.rand(len(rows), 1, 1, 3, generator=generator),), self._device)
        shown = output.rgb + (1 - output.alpha) * background
        loss = (shown - (colour * matte + (1 - matte) * background)).abs().mean()
        loss = loss + config.matte_weight * (output.alpha - matte).abs().mean()
        loss = loss + config.gap_weight * self._gap_changes(expression - self._initial.expression[rows])
        loss = loss + config.sway_weight * _bent(sway)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * (0.1 + 0.9 * fade)
        self._optimizer.step()
        if number >= _WARM_STEPS:
            # The loss is a mean over the batch; a frame's own gradient must not depend on its company.
            self._poses.step(rows, correction.grad * len(rows), config.pose_rate * fade)
            if config.sway_rate > 0 and number >= _SWAY_FROM * self.num_steps:
                self._sway.step(knots, at_knots.grad * len(rows), config.sway_rate * fade)
            if config.expression_rate > 0:
                gradient = expression.grad * len(rows) * self._moving
                self._expressions.step(rows, gradient, config.expression_rate * fade)
                self._expressions.table[rows] = self._capped(self._expressions.table[rows].clamp(0, 1))
        return loss.detach()

    @torch.no_grad()
    def errors(self, states: HeadState, renderer: Renderer) -> Tensor:
        """[T] mean absolute errors of the cloud's pictures, over black, of frames at these states."""
        states, result = states.to(self._device), []
        for rows in torch.arange(self._num_frames).split(self.config.batch):
            colour, matte = self._targets(rows)
            output = self._render_states(rows, states[rows], renderer)
            result.append((output.rgb - colour * matte).abs().mean((1, 2, 3)))
            result[-1] += self.config.matte_weight * (output.alpha - matte).abs().mean((1, 2, 3))
        return torch.cat(result).cpu()

    def state_dict(self) -> dict[str, Tensor]:
        """All that a later process needs to go on."""
        tensors = {f"cloud.{name}": value for name, value in self.cloud.state_dict().items()}
        tensors |= {f"poses.{name}": value for name, value in self._poses.state().items()}
        tensors |= {f"expressions.{name}": value for name, value in self._expressions.state().items()}
        tensors |= {f"sway.{name}": value for name, value in self._sway.state().items()}
        for index, entries in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        return tensors

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what ``state_dict`` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

        self.cloud.load_state_dict(part("cloud."))
        self._poses.load(part("poses."))
        self._expressions.load(part("expressions."))
        self._sway.load(part("sway."))
        groups = self._optimizer.state_dict()["param_groups"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part("adam.").items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _rows(self, number: int) -> Tensor:
        """The frames [B] of a step, each at most once: the last of an epoch are followed by the next epoch's first."""
        batch, count = min(self.config.batch, self._num_frames), self._num_frames
        epoch, start = divmod(number * batch, count)
        order = _order(epoch, count)
        rows = order[start : start + batch]
        if len(rows) < batch:
            after = _order(epoch + 1, count)
            rows = torch.cat([rows, after[~torch.isin(after, rows)][: batch - len(rows)]])
        return rows

    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pictures = [self._frames.get(row) for row in rows.tolist()]
        return torch.stack([colour for colour, _ in pictures]), torch.stack([matte for _, matte in pictures])

    def _render(self, rows: Tensor, correction: Tensor, expression: Tensor, sway: Tensor, renderer: Renderer):
        # In the tracked head's frame: there, quaternions of both frames are near the identity and can be blended.
        initial = self._initial[rows]
        T_body = initial.T_head_body @ _transforms(correction[:, 6:])
        cloud = self.cloud(expression, _transforms(correction[:, :6]), T_body, _sheet(sway))
        return renderer.render(cloud, self._cameras[rows].in_frame(initial.T_world_head))

    def _render_states(self, rows: Tensor, states: HeadState, renderer: Renderer):
        T_head = torch.eye(4, device=self._device).expand(len(rows), 4, 4)
        cloud = self.cloud(states.expression, T_head, states.T_head_body, states.sway)
        return renderer.render(cloud, self._cameras[rows].in_frame(states.T_world_head))

    def _gap_changes(self, change: Tensor) -> Tensor:
        """Mean over pairs and frames of the squared change in millimetres, of expressions changed by [B, E]."""
        moved = (change @ self._gaps_mm).unflatten(-1, (self._num_pairs, 3))
        return moved.square().sum(-1).mean()


def _transforms(corrections: Tensor) -> Tensor:
    """[B, 4, 4] from rotation vectors in radians and translations in tenths of a metre, [B, 6]."""
    return make_transform(rotvecs_to_matrices(corrections[:, :3]), corrections[:, 3:] * _METRES)


def _sheet(rows: Tensor) -> Tensor:
    """[B, C, 2] metres from rows [B, 2 C] of the table of sway."""
    return rows.unflatten(1, (-1, 2)) * _SWAY_UNIT_M


def _bent(rows: Tensor) -> Tensor:
    """What sway costs: the mean square of rows [B, 2 C], and of the differences between neighbouring control points."""
    sheets = rows.unflatten(1, (ROWS, COLUMNS, 2))
    return sheets.square().mean() + sheets.diff(dim=1).square().mean() + sheets.diff(dim=2).square().mean()


def _order(epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
