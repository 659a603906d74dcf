"""Backbones: a picture [B, 4, S, S] and the mesh's map [B, 4, S, S] to features of several scales.

A backbone gives ``levels`` (maps [B, C, h, w] that tokens attend to, of ``level_channels``) and a
fine map [B, fine_channels, h, w] that is read at single pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from likeness.one_shot.config import BackboneConfig


def _conv(config: BackboneConfig) -> nn.Module:
    from likeness.one_shot.backbones.conv import ConvBackbone

    return ConvBackbone(config)


def _dinov2(config: BackboneConfig) -> nn.Module:
    from likeness.one_shot.backbones.pretrained import Dinov2Backbone

    return Dinov2Backbone(config)


BACKBONES: dict[str, Callable[[BackboneConfig], nn.Module]] = {"conv": _conv, "dinov2": _dinov2}
