"""Positional encoding (Mildenhall et al. 2020, equation 4), with the input itself in front."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def encoded_size(dimensions: int, frequencies: int) -> int:
    """Numbers that ``encode`` gives for an input of so many dimensions."""
    return dimensions * (1 + 2 * frequencies)


def encode(points: Tensor, frequencies: int) -> Tensor:
    """Points [*b, D], about [-1, 1], as [*b, D (1 + 2 L)]: x, sin(2^l π x), cos(2^l π x) for l = 0 .. L - 1."""
    if frequencies == 0:
        return points
    octaves = math.pi * 2.0 ** torch.arange(frequencies, dtype=points.dtype, device=points.device)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([points, angles.sin(), angles.cos()], -1)
