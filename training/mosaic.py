"""Images of how a training run goes: source, target and prediction side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.one_shot.prediction import Prediction, refinement
from likeness.renderers import Renderer
from likeness.renderers.screen_refiner import ScreenRefiner
from likeness.training.samples import Sample


def mosaic(
    samples: list[Sample],
    predictions: list[Prediction],
    renderer: Renderer,
    refiner: ScreenRefiner | None = None,
) -> Tensor:
    """[rows, columns, 3] in [0, 1] on white: a row per sample, its source, then each target beside
    its prediction (with a refiner the coarse one, then the refined)."""
    rows = []
    for sample, prediction in zip(samples, predictions):
        size, refine = sample.colours.shape[1], refinement(refiner, prediction)
        matte = sample.inputs.image[3:].movedim(0, -1)
        # grey behind it becomes white
        source = sample.inputs.image[:3].movedim(0, -1) + 0.5 * (1 - matte)
        tiles = [_sized(source, size)]
        for t in range(len(sample.colours)):
            cloud = prediction.posed(sample.displacements[t], sample.T_head_body[t])
            output = renderer.render(cloud, sample.cameras[t])
            white = torch.ones(3, device=cloud.means.device)
            tiles += [sample.colours[t] + 1 - sample.mattes[t], output.over(white)]
            if refine is not None:
                tiles.append(refine(output, renderer, cloud, sample.cameras[t]).over(white))
        rows.append(torch.cat([tile.detach().cpu().clamp(0, 1) for tile in tiles], 1))
    return torch.cat(rows)


def _sized(image: Tensor, size: int) -> Tensor:
    resized = torch.nn.functional.interpolate(
        image.movedim(-1, 0)[None], (size, size), mode="bilinear"
    )
    return resized[0].movedim(0, -1)
