"""Positional encoding (Mildenhall et al. 2020, equation 4), with the input itself in front."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def encoded_size(dimensions: int, frequencies: int) -> int:
    """Numbers that ``encode`` gives for an input of so many dimensions."""
    return dimensions * (1 + 2 * frequencies)


def encode(points: Tensor, frequencies: int) -> Tensor:
    """Points [*b, D], about [-1, 1], as [*b, D (1 + 2 L)]: x, sin(2^l π x), cos(2^l π x) for l = 0
    .. L - 1.

    Raises ValueError for so many frequencies that the highest is no finite number of the points'
    type.
    """
    if frequencies == 0:
        return points
    most = math.floor(math.log2(torch.finfo(points.dtype).max / math.pi)) + 1
    if frequencies > most:
        raise ValueError(
            f"encode: expected at most {most} frequencies of {points.dtype}, got {frequencies}"
        )
    octaves = math.pi * 2.0 ** torch.arange(frequencies, dtype=points.dtype, device=points.device)
    fixed = not (torch.is_grad_enabled() and points.requires_grad)
    if (
        fixed
        and points.ndim == 2
        and points.device.type == "cpu"
        and points.dtype in (torch.float32, torch.float64)
    ):
        return _encode_columns(points, octaves)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([points, angles.sin(), angles.cos()], -1)


def _encode_columns(points: Tensor, octaves: Tensor) -> Tensor:
    """The same numbers [N, *], computed column by column: in long runs of memory."""
    from likeness.ops import rows_cpu  # numba loads slowly: only when used

    count, size = points.shape
    out = points.new_empty(encoded_size(size, len(octaves)), count)
    out[:size] = points.detach().T
    angles = torch.outer(octaves, out[:size].flatten()).view(-1, count)
    torch.sin(angles, out=out[size : size + len(angles)])
    torch.cos(angles, out=out[size + len(angles) :])
    rows = out.new_empty(count, len(out))
    rows_cpu.turn(out.numpy(), rows.numpy())
    return rows
