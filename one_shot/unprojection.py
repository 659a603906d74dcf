"""Gaussians unprojected from the image's plane (GAGAvatar, Chu and Harada 2024): a front and a back
one per cell.

They stand where the head model is not: hair, neck and clothes. Each cell's ray pierces the plane
through the skull's centre; the network says how far before and behind that plane its two Gaussians
lie.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from likeness.one_shot.attention import decoder
from likeness.one_shot.config import OneShotConfig
from likeness.one_shot.inputs import Cells, NetworkInputs
from likeness.one_shot.prediction import Prediction, to_rest
from likeness.one_shot.sampling import sample
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.encoding import encode, encoded_size
from likeness.renderers.screen_refiner import feature_head
from likeness.scene.cloud import GaussianCloud

_FREQUENCIES, _HIDDEN, _EXTENT_M = 3, 96, 0.25
_COVER = 1.1  # standard deviation in half cells, before training
_OUTPUTS = 7  # depth, colour, opacity, size, head


class Unprojection(nn.Module):
    """See the module."""

    def __init__(self, config: OneShotConfig, coarse_channels: int) -> None:
        super().__init__()
        self.reach, self.planes = config.lifting.reach, 2 if config.lifting.planes == "dual" else 1
        self.context = nn.Conv2d(coarse_channels, config.backbone.fine_channels, 1)
        inputs = 2 * config.backbone.fine_channels + 4 + encoded_size(3, _FREQUENCIES) + 1
        self.decoder = decoder(inputs, _HIDDEN, self.planes * _OUTPUTS)
        self.feature_head = feature_head(_HIDDEN, config.refiner, self.planes)

    def forward(
        self, queries: list[Prediction], view: NetworkInputs, fine: Tensor, levels: list[Tensor]
    ) -> list[Prediction]:
        """The predictions with the Gaussians of every image's cells behind the queries."""
        context, feature_head = self.context(levels[-1]), self.feature_head
        result = []
        for b, prediction in enumerate(queries):
            cells = view.cells[b]
            read = [sample(source[b : b + 1], cells.places[None])[0] for source in (fine, context)]
            where = encode(cells.points / _EXTENT_M, _FREQUENCIES)
            inputs = torch.cat([*read, cells.pixels, where, cells.head_logits[:, None]], -1)
            known = self.decoder[:-1](inputs)
            out = self.decoder[-1](known).float().unflatten(-1, (self.planes, _OUTPUTS))
            features = None
            if feature_head is not None:
                features = feature_head(known).float()
                features = features.unflatten(-1, (self.planes, -1)).flatten(0, 1)
            cloud, head_weights = self._gaussians(out, cells, view.T_head_body[b])
            result.append(prediction.with_unprojected(cloud, head_weights, features))
        return result

    def _gaussians(
        self, out: Tensor, cells: Cells, T_head_body: Tensor
    ) -> tuple[GaussianCloud, Tensor]:
        """The cloud of outputs [C, P, 7], flattened to [C P], and its head weights."""
        pixels = cells.pixels.float()
        side = out.new_tensor([-1.0, 1.0])[: self.planes]  # before the plane, behind it
        depth = side * self.reach * torch.sigmoid(out[..., 0] - 1)
        points = cells.points[:, None] + cells.rays[:, None] * depth[..., None]
        matte = pixels[:, None, 3:].clamp_min(0.05)
        colour = (pixels[:, None, :3] + 0.5 * torch.tanh(out[..., 1:4])).clamp(0, 1)
        opacity = torch.sigmoid(out[..., 4] + 2) * matte[..., 0]
        sizes = _COVER * cells.sizes[:, None] * torch.exp(torch.tanh(out[..., 5]))
        weights = torch.sigmoid(cells.head_logits[:, None] + 3 * torch.tanh(out[..., 6])).flatten()
        means = to_rest(points.flatten(0, 1), weights, T_head_body)
        quats = torch.nn.functional.pad(means.new_ones(len(means), 1), (0, 3))
        cloud = GaussianCloud(
            means,
            quats,
            sizes.flatten()[:, None].expand(-1, 3),
            opacity.flatten(),
            spherical_harmonics.from_rgb(colour.flatten(0, 1))[:, None],
        )
        return cloud, weights


def lifting_loss(prediction: Prediction, vertices: Tensor) -> Tensor:
    """Mean distance in metres of the head's vertices [V, 3] to the nearest unprojected Gaussian
    (GAGAvatar's L_lifting).

    For the whole person (``region: all``); 0 where nothing is unprojected.
    """
    unprojected = prediction.cloud.means[prediction.num_queries :]
    if len(unprojected) == 0:
        return vertices.new_zeros(())
    return torch.cdist(vertices, unprojected).amin(1).mean()
