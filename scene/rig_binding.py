"""How Gaussians are bound to a head model's mesh."""

from __future__ import annotations

import dataclasses

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class RigBinding:
    """How N Gaussians are tied to a rig of V vertices.

    shapes: [E, V, 3] metres of displacement at coefficient 1. vertices: [N, 3] int, weights: [N, 3]
        >= 0, sum <= 1.
    """

    shapes: Tensor
    vertices: Tensor
    weights: Tensor
