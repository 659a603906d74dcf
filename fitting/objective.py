"""The objective of a fit: what a rendering is compared with, and by which losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fitting.avatars import AvatarModel
from fitting.picture_loss import picture_loss
from renderers.output import RenderOutput


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses. The defaults are those of HeadGaS, equation 8."""

    l1: float = 0.8
    """Weight of the mean absolute difference."""
    dssim: float = 0.2
    """Weight of 1 - SSIM."""
    perceptual: float = 0.1
    """Weight of the VGG loss; needs VGG16's weights."""
    perceptual_region: Literal["head", "frame"] = "head"
    """Where the VGG loss looks: the head's box by the landmarks (HeadGaS), or the whole frame (GaussianHead)."""
    perceptual_from: int = 10_000
    """Nominal iteration from which the VGG loss acts."""
    matte: float = 0.0
    """Weight of the mean absolute difference of alpha and matte."""
    background: Literal["white", "random"] = "white"
    """What both pictures are composited on: white, or another colour at every step."""
    scale_penalty: float = 0.0
    """Weight of the avatar's penalty ``scale`` (Gaussians larger than 1 cm)."""
    basis_penalty: float = 0.0
    """Weight of the avatar's penalty ``basis`` (size of the expression bases)."""


#: Compares two pictures [H, W, 3] inside a box (left, top, right, bottom); the VGG loss, when there is one.
Perceptual = Callable[[Tensor, Tensor], Tensor]


def background_colour(config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """The colour [3] that this step composites on."""
    if config.background == "white":
        return torch.ones(3)
    return torch.rand(3, generator=generator)


def compute(
    config: ObjectiveConfig,
    output: RenderOutput,
    target: tuple[Tensor, Tensor],
    background: Tensor,
    avatar: AvatarModel,
    perceptual: Perceptual | None,
    head_box: tuple[int, int, int, int] | None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The total loss, its unweighted terms by name, and the mean squared error of the picture (both without gradient).

    target: straight colour [H, W, 3] and matte [H, W, 1]. head_box: left, top, right, bottom in pixels.
    """
    colour, matte = target
    weights = {"l1": config.l1, "dssim": config.dssim, "matte": config.matte}
    found = picture_loss(output.rgb, output.alpha, colour, matte, background, weights)
    terms = {name: term for name, term in found.terms.items() if name != "matte" or config.matte}
    parts = [found.total]
    if perceptual is not None and head_box is not None:
        left, top, right, bottom = head_box
        crop = (slice(top, bottom), slice(left, right))
        picture = RenderOutput(output.rgb[crop], output.alpha[crop]).over(background)
        truth = RenderOutput(colour[crop] * matte[crop], matte[crop]).over(background)
        terms["perceptual"] = perceptual(picture, truth)
        parts.append(config.perceptual * terms["perceptual"])
    penalties = {"scale": config.scale_penalty, "basis": config.basis_penalty}
    if any(penalties.values()):
        for name, value in avatar.regularizers().items():
            if penalties.get(name):
                terms[name] = value
                parts.append(penalties[name] * value)
    return sum(parts), {name: term.detach() for name, term in terms.items()}, found.squared_error
