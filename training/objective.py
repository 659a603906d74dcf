"""The loss of one sample: its targets as the predicted Gaussians show them."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.one_shot.prediction import Prediction, refinement
from likeness.one_shot.unprojection import lifting_loss
from likeness.ops import ssim
from likeness.renderers import Renderer
from likeness.renderers.screen_refiner import ScreenRefiner
from likeness.training.config import LossConfig
from likeness.training.samples import Sample

_CM = 100.0


def sample_loss(
    prediction: Prediction,
    sample: Sample,
    renderer: Renderer,
    config: LossConfig,
    background: Tensor,
    divisor: int,
    perceptual=None,
    refiner: ScreenRefiner | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total loss and its unweighted terms, means over the targets.

    background: [3] behind both images. divisor: targets are compared at 1 / divisor of their
        resolution.
    perceptual: compares two images [H, W, 3]. refiner: both the coarse image and the refined
    one are compared with the truth (GAGAvatar's L_image).
    """
    names = ["l1", "dssim", "matte"] + (["perceptual"] if perceptual is not None else [])
    names += ["refined"] if refiner is not None else []
    refine = refinement(refiner, prediction)
    sums = dict.fromkeys(names, torch.zeros(()))
    count = len(sample.colours)
    for t in range(count):
        colour, matte = reduced(sample.colours[t], sample.mattes[t], divisor)
        camera = sample.cameras[t].reduced(divisor) if divisor > 1 else sample.cameras[t]
        cloud = prediction.posed(sample.displacements[t], sample.T_head_body[t])
        output = renderer.render(cloud, camera)
        truth = colour + (1 - matte) * background
        terms = _of_image(output.over(background), truth, perceptual)
        terms["matte"] = torch.nn.functional.l1_loss(output.alpha, matte)
        if refine is not None:
            output = refine(output, renderer, cloud, camera)
            refined = _of_image(output.over(background), truth, perceptual)
            refined["matte"] = torch.nn.functional.l1_loss(output.alpha, matte)
            terms["refined"] = _weighted(refined, config)
        sums = {name: sums[name] + terms[name] / count for name in names}
    sums["offsets"] = (prediction.offsets * _CM).square().sum(-1).mean()
    sums["departures"] = prediction.departures.mean()
    if config.lifting:
        sums["lifting"] = lifting_loss(prediction, sample.vertices)
    return _weighted(sums, config), {name: term.detach() for name, term in sums.items()}


def _weighted(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    return torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()


def _of_image(image: Tensor, truth: Tensor, perceptual) -> dict[str, Tensor]:
    terms = {"l1": torch.nn.functional.l1_loss(image, truth), "dssim": ssim.dssim(image, truth)}
    return terms if perceptual is None else {**terms, "perceptual": perceptual(image, truth)}


def reduced(colour: Tensor, matte: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
    """Colour [h, w, 3] and matte [h, w, 1], premultiplied as they were, at 1 / divisor of their
    resolution."""
    both = torch.cat([colour, matte], -1)
    if divisor > 1:
        both = torch.nn.functional.avg_pool2d(both.movedim(-1, 0)[None], divisor)[0].movedim(0, -1)
    return both[..., :3], both[..., 3:]
