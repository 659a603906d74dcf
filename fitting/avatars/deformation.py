"""The network that moves, rotates and scales Gaussians with the expression (GaussianHead, equation
3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Deformation(nn.Module):
    """Offsets of Gaussians by their encoded mean and a condition that all of them share.

    The same network as one on the concatenation of both; the shared part is multiplied once, not
    once per Gaussian.
    """

    def __init__(self, encoded: int, condition: int, width: int, layers: int, skip: int) -> None:
        """encoded, condition: numbers of the encoded mean and of the condition. skip: the hidden
        layer, of ``layers`` with ``width`` channels, that sees both again."""
        super().__init__()
        self._skip = skip
        self.hidden = nn.ModuleList(
            nn.Linear(width if i else encoded, width) for i in range(layers)
        )
        self.again = nn.Linear(encoded, width, bias=False)  # the input, once more
        self.conditions = nn.ModuleList(nn.Linear(condition, width, bias=False) for _ in range(2))
        # translation, rotation and log-scale; bundles know them by these names
        self.shift, self.turn, self.growth = (nn.Linear(width, size) for size in (3, 4, 3))
        for head in (self.shift, self.turn, self.growth):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)

    def forward(self, encoded: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets of position [*b, N, 3] (in scene radii), of rotation [*b, N, 4] and of log-scale
        [*b, N, 3] for encoded means [N, *] and conditions [*b, C]."""
        x = encoded
        for index, layer in enumerate(self.hidden):
            x = layer(x)
            if index == 0:
                x = x + self.conditions[0](condition)[..., None, :]
            elif index == self._skip:
                x = x + self.again(encoded) + self.conditions[1](condition)[..., None, :]
            x = torch.relu(x)
        return self.shift(x), self.turn(x), self.growth(x)
