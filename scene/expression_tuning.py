"""A person's own zero and range of every expression, set after the fit and applied before the
avatar sees a state."""

# Tensor.tolist is untyped:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState
from likeness.scene.reading import convert
from likeness.scene.records import TensorRecord

# Coefficients up to the first pass as they are; what is beyond is bent so that it never exceeds the
# second.
_FREE, _LIMIT = 1.5, 2.0


_Number: Any = Annotated[float, msgspec.Meta(gt=-1e6, lt=1e6)]


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """What differs from the identity, by the names of the expressions."""

    neutral: dict[str, Any] = {}
    gains: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class ExpressionTuning(TensorRecord):
    """``expression' = neutral + gain * expression`` for each of E expressions, bent to stay within
    ±2.

    neutral: [E] the coefficients that the face at rest is given. gains: [E] factors of what is
        added to it.
    """

    neutral: Tensor
    gains: Tensor

    def __post_init__(self) -> None:
        if self.neutral.ndim != 1 or self.neutral.shape != self.gains.shape:
            raise ValueError(
                "ExpressionTuning: expected neutral [E] and gains [E], got "
                f"{list(self.neutral.shape)} and {list(self.gains.shape)}"
            )
        for name, values in (("neutral", self.neutral), ("gains", self.gains)):
            if not torch.isfinite(values).all():
                raise ValueError(f"ExpressionTuning.{name}: expected finite numbers")

    @classmethod
    def identity(cls, num_expressions: int) -> ExpressionTuning:
        """The tuning that changes nothing."""
        return cls(torch.zeros(num_expressions), torch.ones(num_expressions))

    @property
    def is_identity(self) -> bool:
        return bool((self.neutral == 0).all() and (self.gains == 1).all())

    def __call__(self, state: HeadState) -> HeadState:
        """The states [*b] with their expressions tuned."""
        return dataclasses.replace(
            state, expression=bend(self.neutral + self.gains * state.expression)
        )

    def to_json(self, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """What differs from the identity, by the names of the expressions."""
        neutral: list[float] = self.neutral.tolist()
        gains: list[float] = self.gains.tolist()
        return {
            "neutral": {name: value for name, value in zip(names, neutral) if value != 0},
            "gains": {name: value for name, value in zip(names, gains) if value != 1},
        }

    @classmethod
    def from_json(cls, entry: Any, names: tuple[str, ...], where: str) -> ExpressionTuning:
        """The reverse of ``to_json``. Raises UserError, which begins with ``where``, for anything
        else."""
        parts = convert(entry, _Stored, f"{where}: tuning", "export the avatar again")
        tuning = cls.identity(len(names))
        for field, values in (("neutral", parts.neutral), ("gains", parts.gains)):
            for name, value in values.items():
                if name not in names:
                    raise UserError(
                        f"{where}: tuning.{field}: this avatar has no expression {name!r}; "
                        "remove it there"
                    )
                place = f"{where}: tuning.{field}.{name}"
                number = convert(value, _Number, place, "export the avatar again")
                getattr(tuning, field)[names.index(name)] = number
        return tuning


def bend(values: Tensor) -> Tensor:
    """Values as they are within ±1.5, and smoothly towards ±2 beyond, infinities included."""
    room = _LIMIT - _FREE
    beyond = values.abs() - _FREE
    bent = values.sign() * (_FREE + room * torch.tanh(beyond / room))
    return torch.where(beyond > 0, bent, values)
