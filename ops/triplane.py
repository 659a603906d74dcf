"""Multi-resolution tri-planes (GaussianHead, equation 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.ops.planes import AXES, look_up

_START = (0.1, 0.5)  # uniform: products of features must not vanish at the start


class TriPlane(nn.Module):
    """Three planes of ``channels`` features at ``resolution`` times each of ``scales``.

    ``levels`` holds [3, R, R, channels] per scale.
    """

    def __init__(self, channels: int, resolution: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ParameterList(
            nn.Parameter(
                torch.empty(len(AXES), resolution * s, resolution * s, channels).uniform_(*_START)
            )
            for s in scales
        )

    def forward(self, points: Tensor, shared: bool = False) -> Tensor:
        """Features [M, G, channels / G] of points [M, G, 3] in [-1, 1]³; see
        ``likeness.ops.planes.look_up``."""
        return look_up(list(self.levels), points, shared)
