"""Gaussians that move with the head model's expression shapes, without knowing the head model.

Each Gaussian is tied to three vertices of the rest mesh with fixed weights and takes their
displacement. What is far from the mesh (hair, clothes) has weights that sum to less than 1, down to
0.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.ops import blend
from likeness.ops.threads import run_rows, suit_kernels
from likeness.scene.cloud import GaussianCloud


def displace(
    cloud: GaussianCloud, expression: Tensor, shapes: Tensor, vertices: Tensor, weights: Tensor
) -> GaussianCloud:
    """The cloud [*b, N] with its means moved by expressions [*b, E]; see RigBinding."""
    driven = expression, shapes, weights
    fixed = not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in driven))
    if fixed and suit_kernels(*driven, cloud.means) and expression.ndim == 1:
        shift = _shifts(expression, shapes, vertices, weights)
    else:
        moved = (expression @ shapes.flatten(1)).reshape(*expression.shape[:-1], -1, 3)
        corners = moved[..., vertices.flatten(), :].reshape(
            *expression.shape[:-1], *vertices.shape, 3
        )
        shift = (corners * weights[..., None]).sum(-2)
    return dataclasses.replace(cloud, means=cloud.means + shift)


def _shifts(expression: Tensor, shapes: Tensor, vertices: Tensor, weights: Tensor) -> Tensor:
    """What one expression [E] moves each Gaussian by, [N, 3], by the kernels."""
    from likeness.ops.deform import motion_kernels  # numba loads slowly: only when used

    shift = torch.empty_like(weights)
    moved = blend.blend_by_code(shapes.detach().flatten(1), expression).view(-1, 3)
    tensors = moved, vertices.detach().contiguous(), weights.detach().contiguous(), shift
    arrays = [tensor.numpy() for tensor in tensors]
    found = []
    run_rows(
        lambda first, last: found.append(motion_kernels.weigh_corners(first, last, *arrays)),
        len(weights),
    )
    if not all(found):
        check_vertices(vertices, shapes.shape[1])
    return shift


def check_vertices(vertices: Tensor, count: int) -> None:
    """Raises IndexError unless all vertices [N, 3] are among a rig's ``count``."""
    if not vertices.numel():
        return
    lowest, highest = vertices.aminmax()
    if lowest < 0 or highest >= count:
        raise IndexError(f"displace: vertices from {lowest} to {highest}, but the rig has {count}")


def compile_kernels() -> None:
    """Compiles what ``displace`` needs on the CPU (seconds, once; then kept on disk): call it
    before a fit."""
    _shifts(
        torch.ones(1), torch.zeros(1, 1, 3), torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3)
    )


def shapes_of_gaussians(shapes: Tensor, vertices: Tensor, weights: Tensor) -> Tensor:
    """What each coefficient moves each Gaussian by, [E, N * 3]: what ``displace`` blends; see
    RigBinding."""
    return (shapes[:, vertices] * weights[..., None]).sum(2).flatten(1).contiguous()
