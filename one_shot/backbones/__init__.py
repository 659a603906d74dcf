"""Backbones: what turns an image into features of several scales."""

from __future__ import annotations

from collections.abc import Callable

from likeness.one_shot.backbones.base import Backbone
from likeness.one_shot.config import BackboneConfig


def _conv(config: BackboneConfig) -> Backbone:
    from likeness.one_shot.backbones.conv import ConvBackbone

    return ConvBackbone(config)


def _dinov2(config: BackboneConfig) -> Backbone:
    from likeness.one_shot.backbones.pretrained import Dinov2Backbone

    return Dinov2Backbone(config)


BACKBONES: dict[str, Callable[[BackboneConfig], Backbone]] = {"conv": _conv, "dinov2": _dinov2}
