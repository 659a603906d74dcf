"""The objective of a fit: what a rendering is compared with, and by which losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.ops.image_loss import image_loss
from likeness.renderers.output import RenderOutput
from likeness.scene.bounds import LargeCount, Weight


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses. The defaults are those of HeadGaS, equation 8."""

    l1: Weight = 0.8
    """Weight of the mean absolute difference."""
    dssim: Weight = 0.2
    """Weight of 1 - SSIM."""
    perceptual: Weight = 0.1
    """Weight of the VGG loss; needs VGG16's weights."""
    perceptual_region: Literal["head", "frame"] = "head"
    """Where the VGG loss looks: the head's box by the landmarks (HeadGaS), or the whole frame
    (GaussianHead)."""
    perceptual_from: LargeCount = 10_000
    """Nominal iteration from which the VGG loss acts."""
    matte: Weight = 0.0
    """Weight of the mean absolute difference of alpha and matte."""
    background: Literal["white", "random"] = "white"
    """What both images are composited on: white, or another colour for every image."""
    scale_penalty: Weight = 0.0
    """Weight of the avatar's penalty ``scale`` (Gaussians larger than 1 cm)."""
    basis_penalty: Weight = 0.0
    """Weight of the avatar's penalty ``basis`` (size of the expression bases)."""


#: Compares two images [H, W, 3] or batches of them [B, H, W, 3]; the VGG loss, when there is one.
Perceptual = Callable[[Tensor, Tensor], Tensor]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""


def background_colour(config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """The colour [3] that one image is composited on."""
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
    boxes: Sequence[Box] | None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The total loss, its unweighted terms by name, and the mean squared error (both without
    gradient): of one image, or means over those of a batch [B].

    target: straight colour [*b, H, W, 3] and matte [*b, H, W, 1]. background: [*b, 3]. boxes: where
    the perceptual loss looks, one for each image.
    """
    colour, matte = target
    weights = {"l1": config.l1, "dssim": config.dssim, "matte": config.matte}
    image = image_loss(output.rgb, output.alpha, colour, matte, background, weights)
    terms = {name: term for name, term in image.terms.items() if name != "matte" or config.matte}
    total = image.total
    if perceptual is not None and boxes is not None:
        terms["perceptual"] = _perceptual(perceptual, boxes, output, colour, matte, background)
        total = total + config.perceptual * terms["perceptual"]
    penalties = {"scale": config.scale_penalty, "basis": config.basis_penalty}
    if any(penalties.values()):
        for name, value in avatar.regularizers().items():
            if penalties.get(name):
                terms[name] = value
                total = total + penalties[name] * value
    return total, {name: term.detach() for name, term in terms.items()}, image.squared_error


def _perceptual(
    compare: Perceptual,
    boxes: Sequence[Box],
    output: RenderOutput,
    colour: Tensor,
    matte: Tensor,
    background: Tensor,
) -> Tensor:
    """The perceptual loss of images [*b, H, W, 3] inside their boxes: in one go where the boxes
    are the same."""

    background = background[..., None, None, :]
    rendered = output.over(background)
    truth = RenderOutput(colour * matte, matte).over(background)

    def inside(box: Box, rendered: Tensor, truth: Tensor) -> Tensor:
        left, top, right, bottom = box
        rendered, truth = (t[..., top:bottom, left:right, :] for t in (rendered, truth))
        return compare(rendered, truth)

    if len(set(boxes)) == 1:
        return inside(boxes[0], rendered, truth)
    return torch.stack([inside(*image) for image in zip(boxes, rendered, truth)]).mean()
