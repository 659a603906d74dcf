"""What every renderer returns."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

ScreenRequest = bool | Literal["absolute"]
"""Whether a rendering also gives ScreenStats; "absolute": with absolute gradients, which cost
gsplat another sum."""


@dataclasses.dataclass(frozen=True)
class ScreenStats:
    """Per-Gaussian facts of one rendering, for densification.

    means2d: [*b, N, 2] projected centres in pixels, whose ``grad`` a backward pass writes.
    radii: [*b, N] largest extent on the screen in pixels, 0 where not drawn.
    visible: [*b, N] bool, drawn at all.
    absgrad: [*b, N, 2], to which a backward pass adds the sum over pixels of the absolute
        gradients; None unless "absolute" was asked for.
    source: what the renderer must keep for as long as these are looked at.
    """

    means2d: Tensor
    radii: Tensor
    visible: Tensor
    absgrad: Tensor | None = None
    source: Tensor | None = dataclasses.field(default=None, repr=False)

    def add_gradients(self, gradient: Tensor, absolute: Tensor | None) -> None:
        """Takes in what a backward pass gives, both [*b, N, 2]."""
        if self.means2d.grad is None:
            self.means2d.grad = torch.zeros_like(self.means2d)
        self.means2d.grad.add_(gradient)
        if self.absgrad is not None and absolute is not None:
            self.absgrad.add_(absolute)


@dataclasses.dataclass(frozen=True)
class RenderOutput:
    """An image: colour premultiplied by alpha.

    rgb: [*b, H, W, 3]. alpha: [*b, H, W, 1]. depth: [*b, H, W, 1] expected depth in metres, 0 where
    alpha is 0, or None where it was not asked for. screen: on request.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None = None
    screen: ScreenStats | None = None

    def over(self, background: Tensor) -> Tensor:
        """The image [*b, H, W, 3] over a colour [3] or an image that broadcasts to [*b, H, W,
        3]."""
        return self.rgb + (1 - self.alpha) * background
