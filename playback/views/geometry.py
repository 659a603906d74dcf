"""The surface that a depth image shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from likeness.scene.camera import Camera

_MAX_STEP = 0.02
"""Metres from pixel to pixel beyond which neighbours are on two surfaces."""


def points_of(depth: Tensor, camera: Camera) -> Tensor:
    """Points [H, W, 3] in the camera's frame of depths [H, W] along its axis."""
    height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = (values.to(depth) for values in (x, y))
    K = camera.K.to(depth)
    return torch.stack(
        [(x - K[0, 2]) / K[0, 0] * depth, (y - K[1, 2]) / K[1, 1] * depth, depth], -1
    )


def normals_of(depth: Tensor, alpha: Tensor, camera: Camera) -> Tensor:
    """Unit normals [H, W, 3] in the camera's frame (+x right, +y down, +z forward), towards the
    camera.

    By differences of the points of the expected depth [H, W] between the pixels at both sides, or
    between a pixel and the one beside it at an edge. 0 where ``alpha`` [H, W] is below a half, and
    where a pixel has no neighbour on its own surface in one direction.
    """
    points, covered = points_of(depth, camera), alpha > 0.5
    across, has_across = _difference(points, covered, 1)
    down, has_down = _difference(points, covered, 0)
    normals = torch.linalg.cross(down, across)  # y x x = -z: towards the camera
    normals = torch.nn.functional.normalize(normals, dim=-1)
    away = (normals * points).sum(-1, keepdim=True) > 0
    normals = torch.where(away, -normals, normals)
    return torch.where((covered & has_across & has_down)[..., None], normals, 0.0)


def _difference(points: Tensor, covered: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Tangents [H, W, 3] along a dimension, and where there are any [H, W]."""
    ahead = points.roll(-1, dim) - points
    joined = covered & covered.roll(-1, dim) & (ahead[..., 2].abs() < _MAX_STEP)
    joined.select(dim, joined.shape[dim] - 1).fill_(False)  # rolled in from the other side
    ahead = torch.where(joined[..., None], ahead, 0.0)
    behind, has_behind = ahead.roll(1, dim), joined.roll(1, dim)
    return ahead + behind, joined | has_behind


def normal_image(normals: Tensor) -> np.ndarray:
    """Normals as colours [H, W, 3] uint8: red to the right, green up, blue to the camera; white
    where there is none."""
    colours = 0.5 + 0.5 * normals * normals.new_tensor([1.0, -1.0, -1.0])
    colours = torch.where((normals == 0).all(-1, keepdim=True), 1.0, colours)
    return (colours * 255).round().to(torch.uint8).cpu().numpy()
