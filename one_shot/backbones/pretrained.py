"""DINOv2 as a frozen backbone, with a small trained map on top for what is read at single
pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.one_shot.backbones.base import Backbone
from likeness.one_shot.backbones.dinov2 import PATCH, Dinov2
from likeness.one_shot.config import BackboneConfig

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FINE = 32  # channels inside the fine branch


class Dinov2Backbone(Backbone):
    """Its blocks' outputs as levels. ``vision`` is frozen; its weights come from the published
    file, or ours."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.layers = config.layers
        self.vision = Dinov2().requires_grad_(False)
        self.level_channels = (self.vision.dim,) * len(config.layers)
        self.coarse = nn.Conv2d(self.vision.dim, _FINE, 1)
        self.local = nn.Sequential(
            nn.Conv2d(4, _FINE, 3, 2, 1), nn.ReLU(), nn.Conv2d(_FINE, _FINE, 3, 2, 1)
        )
        self.smooth = nn.Conv2d(_FINE, config.fine_channels, 3, padding=1)

    def forward(self, image: Tensor, mesh: Tensor) -> tuple[list[Tensor], Tensor]:
        del mesh
        side = image.shape[-1] // PATCH * PATCH
        colour = nn.functional.interpolate(
            image[:, :3], (side, side), mode="bilinear", antialias=True
        )
        mean, std = (colour.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        with torch.no_grad():
            levels = self.vision((colour - mean) / std, self.layers)
        local = self.local(image)
        coarse = nn.functional.interpolate(
            self.coarse(levels[-1]), local.shape[-2:], mode="bilinear"
        )
        return levels, self.smooth(nn.functional.relu(local + coarse))
