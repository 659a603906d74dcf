"""How Gaussians are bound to a head model's mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

CHANGES = 12
"""Numbers that tell what an expression does to what is bound to a vertex, beside moving it."""
LARGEST_GROWTH = 1.2
"""Logarithm of how many times longer or shorter than at rest an expression makes a Gaussian."""


@dataclasses.dataclass(frozen=True)
class RigBinding:
    """How N Gaussians are bound to a rig of V vertices: each moves with three of them.

    shapes: [E, V, 3] metres of displacement at coefficient 1. vertices: [N, 3] int, weights: [N, 3]
        >= 0, sum <= 1. changes: [E, V, CHANGES] what a coefficient of 1 does there beside moving: a
        rotation vector in radians, a logarithmic strain (xx, yy, zz, xy, xz, yz) before that, and
        what it adds to the constant harmonics of colour, as light falls on what has turned; None:
        nothing.
    """

    shapes: Tensor
    vertices: Tensor
    weights: Tensor
    changes: Tensor | None = None

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
            bindings[0].changes,
        )

    def select(self, index: Tensor | slice) -> RigBinding:
        """Some of the Gaussians, by indices, a mask [N] or a slice."""
        return RigBinding(self.shapes, self.vertices[index], self.weights[index], self.changes)
