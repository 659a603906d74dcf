"""Reading maps at places."""

from __future__ import annotations

from torch import Tensor, nn


def sample(features: Tensor, places: Tensor) -> Tensor:
    """Features [B, C, h, w] at places [B, N, 2] in [-1, 1] (x right, y down), bilinear: [B, N, C];
    the border continues outside."""
    # In float32 always: half a mantissa would move places by pixels.
    values = nn.functional.grid_sample(
        features.float(), places[:, :, None].float(), padding_mode="border", align_corners=False
    )
    return values[..., 0].transpose(1, 2)
