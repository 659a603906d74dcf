"""What is corrected of each frame: first at knots in time, then of each frame alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from likeness.ops.adam import RowAdam
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.photometric.knots import Knots
from likeness.scene.to_device import to_device

# Gradients are per frame of the mean error over its image; these move nothing (noise, or what is
# out of sight).
_POSE_EPSILON, _EXPRESSION_EPSILON = 1e-4, 1e-5
# Rates of single frames against those of knots. Adam's first steps have the whole rate whatever the
# gradient: in poses these are jitter, which takes visits to settle.
_POSES_ALONE, _EXPRESSIONS_ALONE = 0.5, 2.0


class Corrections:
    """Corrections of all T frames' poses [T, 12] (rotation and translation of the head, then of the
    body, each in its own frame) and their expressions [T, E].

    Most of what landmarks get wrong changes slowly. As long as steps are ``coarse``, changes are
    held at knots in time and linear between them: what one visit of a frame shows, its neighbours
    have too. ``settle`` ends this; from then on every frame moves alone.
    """

    def __init__(
        self,
        expression: Tensor,
        times: Sequence[float],
        config: PhotometricConfig,
        moving: Tensor,
        bounded: Callable[[Tensor], Tensor],
    ) -> None:
        """expression: [T, E] to begin with, at ``times`` [T] seconds. moving: [E], 1 for
        coefficients that may change, else 0. bounded: takes coefficients to where the head model
        allows them."""
        self._config, self._moving, self._bounded = config, moving, bounded
        self._count = len(expression)
        self._knots = Knots(times, config.coarse_interval_s)
        self._poses = RowAdam(expression.new_zeros(self._count, 12), _POSE_EPSILON)
        self._expressions = RowAdam(expression.clone(), _EXPRESSION_EPSILON)
        knots = self._knots.count
        self._knot_poses = RowAdam(expression.new_zeros(knots, 12), _POSE_EPSILON)
        self._knot_expressions = RowAdam(
            expression.new_zeros(knots, expression.shape[1]), _EXPRESSION_EPSILON
        )

    @property
    def poses(self) -> Tensor:
        """[T, 12] as they stand."""
        return self._poses.table + self._knots.between(self._knot_poses.table, range(self._count))

    @property
    def expressions(self) -> Tensor:
        """[T, E] as they stand."""
        changes = self._knots.between(self._knot_expressions.table, range(self._count))
        return self._bounded(self._expressions.table + changes)

    def of(self, rows: Tensor, coarse: bool) -> tuple[Tensor, Tensor]:
        """Poses' corrections [B, 12] and expressions [B, E] of frames (on the host, each at most
        once), with gradients that ``step`` takes up."""
        numbers, device = rows.tolist(), self._moving.device
        moved = self._knots.around(numbers) if coarse else rows
        (self._moved, rows) = to_device((moved, rows), device)
        poses, expressions = self._optimizers(coarse)
        self._pose = poses.table[self._moved].requires_grad_()
        self._expression = expressions.table[self._moved].requires_grad_(
            self._config.expression_rate > 0
        )
        if not coarse:
            return self._pose, self._expression
        change = self._knots.between(self._expression, numbers, moved)
        pose = self._knots.between(self._pose, numbers, moved)
        return pose, self._bounded(self._expressions.table[rows] + change)

    def step(self, coarse: bool, scale: float, fade: float) -> None:
        """Moves what the last ``of`` gave against ``scale`` times its gradient, by the rates times
        ``fade``."""
        poses, expressions = self._optimizers(coarse)
        pose_rate = self._config.pose_rate * fade
        expression_rate = self._config.expression_rate * fade
        if not coarse:
            pose_rate, expression_rate = (
                _POSES_ALONE * pose_rate,
                _EXPRESSIONS_ALONE * expression_rate,
            )
        assert self._pose.grad is not None
        poses.step(self._moved, self._pose.grad * scale, pose_rate)
        if expression_rate > 0:
            assert self._expression.grad is not None
            expressions.step(
                self._moved, self._expression.grad * scale * self._moving, expression_rate
            )
            if not coarse:
                expressions.table[self._moved] = self._bounded(expressions.table[self._moved])

    def settle(self) -> None:
        """Hands over what knots hold to the frames."""
        self._poses.table.copy_(self.poses)
        self._expressions.table.copy_(self.expressions)
        self._knot_poses.table.zero_()
        self._knot_expressions.table.zero_()

    def is_finite(self) -> bool:
        """Whether all numbers are."""
        return all(bool(torch.isfinite(table).all()) for table in (self.poses, self.expressions))

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs; the tensors themselves, not copies."""
        return {
            f"{kind}.{name}": t
            for kind, adam in self._tables().items()
            for name, t in adam.state().items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def _tables(self) -> dict[str, RowAdam]:
        return {
            "poses": self._poses,
            "expressions": self._expressions,
            "knot_poses": self._knot_poses,
            "knot_expressions": self._knot_expressions,
        }

    def _optimizers(self, coarse: bool) -> tuple[RowAdam, RowAdam]:
        return (
            (self._knot_poses, self._knot_expressions)
            if coarse
            else (self._poses, self._expressions)
        )
