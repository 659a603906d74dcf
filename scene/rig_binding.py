"""How Gaussians are bound to a head model's mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class RigBinding:
    """How N Gaussians are bound to a rig of V vertices: each moves with three of them.

    shapes: [E, V, 3] metres of displacement at coefficient 1. vertices: [N, 3] int, weights: [N, 3]
        >= 0, sum <= 1.
    """

    shapes: Tensor
    vertices: Tensor
    weights: Tensor

    @classmethod
    def empty(cls, num_gaussians: int, num_expressions: int, num_vertices: int) -> RigBinding:
        """A binding of the right sizes that moves nothing; its values are to be loaded or set."""
        return cls(
            torch.zeros(num_expressions, num_vertices, 3),
            torch.zeros(num_gaussians, 3, dtype=torch.long),
            torch.zeros(num_gaussians, 3),
        )

    @classmethod
    def cat(cls, bindings: Sequence[RigBinding]) -> RigBinding:
        """All Gaussians of bindings to one rig."""
        return cls(
            bindings[0].shapes,
            torch.cat([binding.vertices for binding in bindings]),
            torch.cat([binding.weights for binding in bindings]),
        )

    def select(self, index: Tensor | slice) -> RigBinding:
        """Some of the Gaussians, by indices, a mask [N] or a slice."""
        return RigBinding(self.shapes, self.vertices[index], self.weights[index])
