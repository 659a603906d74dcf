"""The points of triangles that are nearest to given points (Ericson, Real-Time Collision Detection,
2005, section 5.1.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.ops.threads import suit_kernels


def closest_triangles(
    points: Tensor, triangles: Tensor, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of triangles [F, 3, 3], those nearest to points [N, 3] among ``candidates`` [N, K] long.

    Returns their numbers [N] long, the barycentrics [N, 3] of the nearest points in them, and the
    distances [N]. Without gradients.
    """
    points, triangles = points.detach(), triangles.detach()
    if not suit_kernels(points, triangles):
        return closest_triangles_reference(points, triangles, candidates)
    from likeness.ops import closest_cpu  # numba loads slowly: only when used

    return closest_cpu.closest_triangles(points, triangles, candidates)


def closest_triangles_reference(
    points: Tensor, triangles: Tensor, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``closest_triangles`` in plain PyTorch operations, on any device and in any precision."""
    a, b, c = triangles[candidates].unbind(-2)
    p = points[:, None]
    # inside the triangle: the foot of the perpendicular
    ab, ac, ap = b - a, c - a, p - a
    d11, d12, d22 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    p1, p2 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = d11 * d22 - d12 * d12
    v, w = (d22 * p1 - d12 * p2) / area, (d11 * p2 - d12 * p1) / area
    foot = torch.stack([1 - v - w, v, w], -1)
    # what lies beside it, or a triangle without area, is as near as its edges are
    beside = ~(foot >= 0).all(-1) | ~(area > 0)
    foot = torch.where(beside[..., None], torch.tensor([1.0, 0.0, 0.0]).to(foot), foot)
    choices = [foot]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, end = (a, b, c)[first], (a, b, c)[second]
        edge = end - start
        along = ((p - start) * edge).sum(-1) / (edge * edge).sum(-1).clamp_min(1e-30)
        weights = torch.zeros_like(foot)
        weights[..., second] = along.clamp(0, 1)
        weights[..., first] = 1 - weights[..., second]
        choices.append(weights)
    weights = torch.stack(choices, -2)  # [N, K, 4, 3]
    nearest = (weights[..., None] * torch.stack([a, b, c], -2)[..., None, :, :]).sum(-2)
    distances = (nearest - p[..., None, :]).norm(dim=-1).flatten(1)
    best, rows = distances.argmin(-1), torch.arange(len(points), device=points.device)
    chosen = candidates[rows, best // len(choices)]
    return chosen, weights.flatten(1, 2)[rows, best], distances[rows, best]
