"""The compact backbone: a few convolutions down to 1/32, and back up to a fine map at 1/4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.one_shot.backbones.base import Backbone
from likeness.one_shot.config import BackboneConfig


class ConvBackbone(Backbone):
    """See the module. Trained from scratch with the network around it."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        widths = config.widths
        self.sees_mesh = config.sees_mesh
        inputs = 8 if config.sees_mesh else 4
        self.stages = nn.ModuleList(_stage(a, b) for a, b in zip((inputs, *widths), widths))
        self.level_channels = tuple(widths[-2:])
        self.up = nn.ModuleList(nn.Conv2d(width, config.fine_channels, 1) for width in widths[1:])
        self.smooth = nn.Conv2d(config.fine_channels, config.fine_channels, 3, padding=1)

    def forward(self, image: Tensor, mesh: Tensor) -> tuple[list[Tensor], Tensor]:
        x = torch.cat([image, mesh], 1) if self.sees_mesh else image
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine = self.up[-1](maps[-1])
        for up, features in zip(reversed(self.up[:-1]), reversed(maps[1:-1])):
            fine = nn.functional.interpolate(fine, features.shape[-2:], mode="nearest") + up(
                features
            )
        return maps[-2:], self.smooth(nn.functional.relu(fine))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(max(width // 16, 1), width)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.relu(self.norm(self.conv(x)))


def _stage(inputs: int, width: int) -> nn.Sequential:
    down = [
        nn.Conv2d(inputs, width, 3, 2, 1, bias=False),
        nn.GroupNorm(max(width // 16, 1), width),
        nn.ReLU(),
    ]
    return nn.Sequential(*down, *([_Residual(width)] if width >= 32 else []))
