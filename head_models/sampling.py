"""Points on triangle meshes: drawn at random, and what fields over the vertices are there."""

from __future__ import annotations

import torch
from torch import Tensor


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals [*b, F, 3] of triangles [F, 3] of vertices [*b, V, 3]; their length is twice the
    triangle's area."""
    a, b, c = (vertices[..., faces[:, corner], :] for corner in range(3))
    return torch.linalg.cross(b - a, c - a)


def face_areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """Areas [*b, F] of triangles [F, 3] of vertices [*b, V, 3]."""
    return face_normals(vertices, faces).norm(dim=-1) / 2


def sample_triangles(
    weights: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random points: triangles [N] drawn in proportion to weights [F] (areas, for points that are
    uniform on the surface), and barycentrics [N, 3] uniform in them."""
    if count == 0:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    return drawn, torch.stack([1 - u - v, u, v], -1)


def interpolate(field: Tensor, corners: Tensor, barycentrics: Tensor) -> Tensor:
    """Values [*b, N, C] of a field over the vertices [*b, V, C] at points between the vertices
    ``corners`` [N, 3] with weights ``barycentrics`` [N, 3]."""
    first, second, third = (
        field[..., corners[:, k], :] * barycentrics[:, k, None] for k in range(3)
    )
    return first + second + third
