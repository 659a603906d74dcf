"""Gaussians that move with the head model's expression shapes, without knowing the head model.

Each Gaussian is tied to three vertices of the rest mesh with fixed weights and takes their displacement. What is far
from the mesh (hair, clothes) has weights that sum to less than 1, down to 0.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from scene.cloud import GaussianCloud


@dataclasses.dataclass(frozen=True)
class RigBinding:
    """How N Gaussians are tied to a rig of V vertices.

    shapes: [E, V, 3] metres of displacement at coefficient 1. vertices: [N, 3] int, weights: [N, 3] >= 0, sum <= 1.
    """

    shapes: Tensor
    vertices: Tensor
    weights: Tensor


def displace(
    cloud: GaussianCloud, expression: Tensor, shapes: Tensor, vertices: Tensor, weights: Tensor
) -> GaussianCloud:
    """The cloud [*b, N] with its means moved by expressions [*b, E]; see RigBinding."""
    moved = (expression @ shapes.flatten(1)).reshape(*expression.shape[:-1], -1, 3)
    corners = moved[..., vertices.flatten(), :].reshape(*expression.shape[:-1], *vertices.shape, 3)
    return dataclasses.replace(cloud, means=cloud.means + (corners * weights[..., None]).sum(-2))


def shapes_of_gaussians(shapes: Tensor, vertices: Tensor, weights: Tensor) -> Tensor:
    """What each coefficient moves each Gaussian by, [E, N * 3]: what ``displace`` blends; see RigBinding."""
    return (shapes[:, vertices] * weights[..., None]).sum(2).flatten(1).contiguous()


def empty_binding(num_gaussians: int, num_expressions: int, num_vertices: int) -> RigBinding:
    """A binding of the right sizes that moves nothing; its values are to be loaded or set."""
    return RigBinding(
        torch.zeros(num_expressions, num_vertices, 3),
        torch.zeros(num_gaussians, 3, dtype=torch.long),
        torch.zeros(num_gaussians, 3),
    )
