"""What every backbone has."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """An image [B, 4, S, S] and the mesh's map [B, 4, S, S] to ``levels``, maps [B, C, h, w] that
    tokens attend to, and a fine map [B, fine_channels, h, w] that is read at single pixels."""

    level_channels: tuple[int, ...]
    """C of each level."""
