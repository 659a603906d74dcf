"""Multi-resolution tri-planes (GaussianHead, equation 4): features of points by bilinear lookups in three planes.

A lookup gathers rows of a table: channels lie last and in groups, so that a point which reads one group of channels
touches that group alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PLANES = ((0, 1), (0, 2), (1, 2))  # the axes that span each plane: xy, xz, yz
_START = (0.1, 0.5)  # uniform: products of features must not vanish at the start


class TriPlane(nn.Module):
    """Planes of ``channels`` features at ``resolution`` times each of ``scales``.

    ``levels`` holds [3, R, R, channels] per scale. The corners of the box [-1, 1]³ are the centres of the outermost
    cells; beyond the box the border's values hold, without gradient by position.
    """

    def __init__(self, channels: int, resolution: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels
        self.levels = nn.ParameterList(
            nn.Parameter(torch.empty(len(PLANES), resolution * s, resolution * s, channels).uniform_(*_START))
            for s in scales
        )

    def forward(self, points: Tensor, groups: Tensor, num_groups: int) -> Tensor:
        """Features [M, channels / num_groups] of points [M, 3] that read the channel group ``groups`` [M] each: the
        product over the planes, summed over the scales."""
        total = None
        for level in self.levels:
            rows = level.reshape(-1, self.channels // num_groups)
            product = None
            for plane, axes in enumerate(PLANES):
                corners, weights = _corners(points[:, axes], level.shape[1])
                index = ((plane * level.shape[1] ** 2 + corners) * num_groups) + groups[:, None]
                values = _WeightedRows.apply(rows, index, weights)
                product = values if product is None else product * values
            total = product if total is None else total + product
        return total


def _corners(points: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Cells [M, 4] (row-major, the second coordinate across) around points [M, 2] in [-1, 1], and their weights."""
    at = ((points + 1) * (0.5 * (resolution - 1))).clamp(0, resolution - 1)
    low = at.detach().floor().clamp_max(max(resolution - 2, 0))
    part = at - low
    u, v = part.unbind(-1)
    weights = torch.stack([(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v], -1)
    row, column = low.long().unbind(-1)
    first = row * resolution + column
    steps = torch.tensor([0, 1, resolution, resolution + 1], device=points.device)
    if resolution == 1:
        steps = torch.zeros_like(steps)
    return first[:, None] + steps, weights


class _WeightedRows(torch.autograd.Function):
    """Σ_j weights[m, j] table[index[m, j]] as [M, C]."""

    @staticmethod
    def forward(ctx, table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, weights)
        return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weights.detach(), mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        table, index, weights = ctx.saved_tensors
        grad_table = grad_weights = None
        if ctx.needs_input_grad[0]:
            spread = (weights[..., None] * grad[:, None]).flatten(0, 1)
            grad_table = torch.zeros_like(table).index_add_(0, index.flatten(), spread)
        if ctx.needs_input_grad[2]:
            grad_weights = (table[index] * grad[:, None]).sum(-1)
        return grad_table, None, grad_weights
