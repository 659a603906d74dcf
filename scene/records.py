"""What all nouns of tensors have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

R = TypeVar("R", bound="TensorRecord")


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A frozen dataclass whose fields are tensors, or values that hold for a whole batch."""

    def __repr__(self) -> str:
        """The shapes of its tensors: their values would fill pages."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        parts = (f"{k}={list(v.shape) if isinstance(v, Tensor) else repr(v)}" for k, v in values)
        return f"{type(self).__name__}({', '.join(parts)})"

    def fields(self) -> dict[str, Tensor]:
        """The tensors by name."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in values if isinstance(value, Tensor)}

    def map(self: R, function: Callable[[Tensor], Tensor]) -> R:
        """The same with each tensor replaced by ``function`` of it."""
        changes = {name: function(tensor) for name, tensor in self.fields().items()}
        return dataclasses.replace(self, **changes)

    def to(self: R, *args: Any, **kwargs: Any) -> R:
        """The same on another device, or of another type, as ``Tensor.to`` takes them."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self: R) -> R:
        return self.map(Tensor.detach)

    @classmethod
    def stack(cls, items: Sequence[R]) -> R:
        """One batch from single ones."""
        return cls._joined(torch.stack, items)

    @classmethod
    def _joined(cls, join: Callable[[list[Tensor]], Tensor], items: Sequence[R]) -> R:
        columns = [item.fields() for item in items]
        joined = {name: join([column[name] for column in columns]) for name in columns[0]}
        return dataclasses.replace(items[0], **joined)
