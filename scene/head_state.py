"""The one driving signal: what the tracker writes, the avatar reads, a driver streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from likeness.scene.checks import check_same_batch, check_shape
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.transforms import invert_transform


@dataclasses.dataclass(frozen=True)
class HeadState:
    """Expressions, joints and poses of a head, with leading batch dimensions.

    expression: [*b, E] coefficients, by the names of the head model (0 is neutral, 1 is full).
    joints: [*b, J, 4] rotations wxyz of the joints relative to rest, by the names of the head
        model.
    T_world_head: [*b, 4, 4] from the head frame to the world.
    T_world_body: [*b, 4, 4] from the body frame to the world; equal to ``T_world_head`` at rest.
    sway: [*b, C, 2] metres, how hair, neck and clothes are displaced from where the poses take
        them, as offsets of the control points of ``likeness.ops.deform``; at rest
        (zeros) where it is not given.
    """

    expression: Tensor
    joints: Tensor
    T_world_head: Tensor
    T_world_body: Tensor
    sway: Tensor | None = None  # never None once it is made

    def __post_init__(self) -> None:
        owner = "HeadState"
        if self.sway is None:
            object.__setattr__(
                self, "sway", self.expression.new_zeros(*self.expression.shape[:-1], NUM_POINTS, 2)
            )
        batches = {
            "expression": check_shape(owner, "expression", self.expression, ("E",)),
            "joints": check_shape(owner, "joints", self.joints, ("J", 4)),
            "T_world_head": check_shape(owner, "T_world_head", self.T_world_head, (4, 4)),
            "T_world_body": check_shape(owner, "T_world_body", self.T_world_body, (4, 4)),
            "sway": check_shape(owner, "sway", self.sway, (NUM_POINTS, 2)),
        }
        check_same_batch(owner, batches)

    @classmethod
    def neutral(
        cls, num_expressions: int, num_joints: int, T_world_head: Tensor | None = None
    ) -> HeadState:
        """The expressionless head at a pose [4, 4] (identity if none), with the body at rest below
        it."""
        pose = torch.eye(4) if T_world_head is None else T_world_head
        joints = pose.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(num_joints, 1)
        return cls(pose.new_zeros(num_expressions), joints, pose, pose)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> HeadState:
        """Of tensors by the names of the fields, behind ``prefix``. Files of earlier programs have
        no sway."""
        return cls(
            **{
                f.name: tensors[prefix + f.name]
                for f in dataclasses.fields(cls)
                if prefix + f.name in tensors
            }
        )

    @classmethod
    def stack(cls, states: list[HeadState]) -> HeadState:
        """One batch from single states."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(
            **{name: torch.stack([getattr(state, name) for state in states]) for name in names}
        )

    def __getitem__(self, index) -> HeadState:
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return self.expression.shape[0] if self.expression.ndim > 1 else 1

    def map(self, function) -> HeadState:
        """A state whose tensors are ``function`` of these."""
        return HeadState(
            **{f.name: function(getattr(self, f.name)) for f in dataclasses.fields(self)}
        )

    def to(self, *args, **kwargs) -> HeadState:
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def expressionless(self) -> HeadState:
        """The same poses with a neutral face and eyes straight ahead."""
        joints = torch.zeros_like(self.joints)
        joints[..., 0] = 1
        return dataclasses.replace(
            self, expression=torch.zeros_like(self.expression), joints=joints
        )

    def without_secondary_motion(self) -> HeadState:
        """The same with hair, neck and clothes where the poses take them."""
        return dataclasses.replace(self, sway=torch.zeros_like(self.sway))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.expression.shape[:-1])

    @property
    def T_head_body(self) -> Tensor:
        """[*b, 4, 4] from the body frame to the head frame; the identity at rest."""
        return invert_transform(self.T_world_head) @ self.T_world_body
