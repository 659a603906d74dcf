"""The one driving signal: what the tracker writes, the avatar reads, a driver streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from likeness.scene.checks import check_same_batch, check_shape
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.records import TensorRecord
from likeness.scene.transforms import invert_transform

_AT_REST = torch.zeros(NUM_POINTS, 2)  # stands for zeros of the state's batch, type and device


def _key(name: str, prefix: str) -> str:
    """What a field is called in files."""
    return prefix + ("sway" if name == "secondary_motion" else name)


@dataclasses.dataclass(frozen=True, repr=False)
class HeadState(TensorRecord):
    """Expressions, joints and poses of a head, with leading batch dimensions.

    expression: [*b, E] coefficients, by the names of the head model (0 is neutral, 1 is full).
    joints: [*b, J, 4] rotations wxyz of the joints relative to rest, by the names of the head
        model.
    T_world_head: [*b, 4, 4] from the head frame to the world.
    T_world_body: [*b, 4, 4] from the body frame to the world; equal to ``T_world_head`` at rest.
    secondary_motion: [*b, C, 2] metres, how hair, neck and clothes are displaced from where the
        poses take them, as offsets of the control points of ``likeness.scene.lattice``; at rest
        (zeros) where it is not given. Files call it "sway".
    """

    expression: Tensor
    joints: Tensor
    T_world_head: Tensor
    T_world_body: Tensor
    secondary_motion: Tensor = _AT_REST

    def __post_init__(self) -> None:
        owner = "HeadState"
        if self.secondary_motion is _AT_REST:
            zeros = self.expression.new_zeros(*self.expression.shape[:-1], NUM_POINTS, 2)
            object.__setattr__(self, "secondary_motion", zeros)
        batches = {
            "expression": check_shape(owner, "expression", self.expression, ("E",)),
            "joints": check_shape(owner, "joints", self.joints, ("J", 4)),
            "T_world_head": check_shape(owner, "T_world_head", self.T_world_head, (4, 4)),
            "T_world_body": check_shape(owner, "T_world_body", self.T_world_body, (4, 4)),
            "secondary_motion": check_shape(
                owner, "secondary_motion", self.secondary_motion, (NUM_POINTS, 2)
            ),
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
        """Of the tensors of a file, behind ``prefix``. Files of earlier programs have no secondary
        motion."""
        keys = {field.name: _key(field.name, prefix) for field in dataclasses.fields(cls)}
        return cls(**{name: tensors[key] for name, key in keys.items() if key in tensors})

    def to_tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The reverse of ``from_tensors``: the tensors by the names that files have for them."""
        return {_key(name, prefix): tensor for name, tensor in self.fields().items()}

    @classmethod
    def cat(cls, states: Sequence[HeadState]) -> HeadState:
        """Batches joined along their first dimension."""
        return cls._joined(torch.cat, states)

    def __getitem__(self, index: Any) -> HeadState:
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return self.expression.shape[0] if self.expression.ndim > 1 else 1

    def expressionless(self) -> HeadState:
        """The same poses with a neutral face and eyes straight ahead."""
        joints = torch.zeros_like(self.joints)
        joints[..., 0] = 1
        return dataclasses.replace(
            self, expression=torch.zeros_like(self.expression), joints=joints
        )

    def without_secondary_motion(self) -> HeadState:
        """The same with hair, neck and clothes where the poses take them."""
        return dataclasses.replace(self, secondary_motion=torch.zeros_like(self.secondary_motion))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.expression.shape[:-1])

    @property
    def T_head_body(self) -> Tensor:
        """[*b, 4, 4] from the body frame to the head frame; the identity at rest."""
        return invert_transform(self.T_world_head) @ self.T_world_body
