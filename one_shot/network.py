"""The one-shot network: one image and its tracked head to Gaussians on the head at rest.

After LAM (He et al., 2025): canonical points as queries, a stack of cross-attention to multi-scale
features of the image, heads for Gaussians. With little training, attention alone tells colours
badly: a query therefore also reads the image where it is projected to and where its mirrored twin
is, and chooses between them and what it has learned (``pixel_aligned``). What the head model lacks
is unprojected from the image's plane (``unprojection.py``, after GAGAvatar). With a refiner
(``config.refiner``) Gaussians also get the features that it reads.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.head_models.sampling import interpolate
from likeness.one_shot.attention import Block, decoder
from likeness.one_shot.backbones import BACKBONES
from likeness.one_shot.config import OneShotConfig
from likeness.one_shot.inputs import NetworkInputs
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.queries import QueryPoints
from likeness.one_shot.sampling import sample
from likeness.one_shot.unprojection import Unprojection
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.encoding import encode, encoded_size
from likeness.renderers.screen_refiner import ScreenRefiner, feature_head
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import multiply_quats, quats_to_matrices, rotvecs_to_quats

_FREQUENCIES = 5
_HEAD_M = 0.15  # positions are divided by this before they are encoded
_SEEN_BIAS, _TWIN_HANDICAP = 3.0, 1.0
# Of a query before training: opacity, and standard deviations along and off the surface in units of
# the spacing.
_OPACITY, _FLATNESS = 0.9, (0.6, 0.6, 0.25)
_GATES = 3  # own pixel, twin's pixel, learned colour
_EXTRA = 3  # seen, cosine, inside
_OF_REFINER = ("refiner.", "feature_head.", "lifting.feature_head.")


def is_of_refiner(name: str) -> bool:
    """Whether a parameter of the network, by its name, serves refined images alone."""
    return name.startswith(_OF_REFINER)


class OneShotNetwork(nn.Module):
    """See the module. ``num_vertices``: of the head model."""

    def __init__(self, config: OneShotConfig, num_vertices: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone.kind](config.backbone)
        channels = self.backbone.level_channels
        self.level_maps = nn.ModuleList(nn.Conv2d(c, config.dim, 1) for c in channels)
        self.level_marks = nn.Parameter(torch.randn(len(channels), config.dim) * 0.02)
        self.vertex_features = nn.Parameter(torch.randn(num_vertices, config.vertex_features) * 0.1)
        static = encoded_size(3, _FREQUENCIES) + 6 + config.vertex_features
        aligned = 2 * (4 + config.backbone.fine_channels + _EXTRA) if config.pixel_aligned else 0
        self.token_in = nn.Linear(static + aligned, config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.blocks))
        self.rest_harmonics = 3 * (spherical_harmonics.num_coefficients(config.sh_degree) - 1)
        self.sizes = {
            "gates": _GATES,
            "colour": 3,
            "residual": 3,
            "opacity": 1,
            "scales": 3,
            "turn": 3,
            "offset": 3,
            "head": 1,
            "harmonics": self.rest_harmonics,
        }
        self.decoder = decoder(
            static + aligned + config.dim, config.hidden, sum(self.sizes.values())
        )
        self.lifting = Unprojection(config, channels[-1]) if config.lifting.enabled else None
        self.feature_head = feature_head(config.hidden, config.refiner)
        self.refiner = ScreenRefiner(config.refiner) if config.refiner.enabled else None

    def forward(
        self, view: NetworkInputs, surface: QueryPoints, head_logits: Tensor
    ) -> list[Prediction]:
        """Predictions for images [B]; cells of the batch's views are in lists.

        head_logits: [B, N] how much each query belongs to the head, by its place.
        """
        levels, fine = self.backbone(view.image, view.mesh)
        static = self._static(view, surface)
        aligned, pixels = self._aligned(view, fine)
        inputs = torch.cat([static, aligned], -1)
        tokens = self._tokens(inputs[:, surface.tokens], levels)
        near = tokens  # where all queries attend
        if len(surface.tokens) < len(surface):
            near = interpolate(tokens, surface.near, surface.near_weights)
        known = self.decoder[:-1](torch.cat([inputs, near], -1))
        out = self.decoder[-1](known).float()
        parts = dict(zip(self.sizes, out.split(list(self.sizes.values()), -1)))
        predictions = self._decoded(parts, pixels, view, surface, head_logits)
        if self.feature_head is not None:
            features = self.feature_head(known).float()
            predictions = [
                dataclasses.replace(prediction, features=features[b])
                for b, prediction in enumerate(predictions)
            ]
        if self.lifting is not None:
            predictions = self.lifting(predictions, view, fine, levels)
        return predictions

    def _static(self, view: NetworkInputs, surface: QueryPoints) -> Tensor:
        """What does not depend on the image but for the identity: [B, N, C]."""
        features = surface.of(self.vertex_features)
        where = encode(surface.template / _HEAD_M, _FREQUENCIES)
        common = torch.cat([where, surface.normals, features], -1).expand(len(view.points), -1, -1)
        return torch.cat([common, (view.points - surface.template) * 30], -1)

    def _aligned(self, view: NetworkInputs, fine: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, N, C] at the queries' own pixels and their twins', and the two colours [B,
        N, 2, 3]."""
        if not self.config.pixel_aligned:
            return view.points.new_zeros(*view.points.shape[:2], 0), None
        parts, colours = [], []
        for places in (view.own, view.twin):
            pixels = sample(view.image, places[..., :2])
            parts += [pixels, sample(fine, places[..., :2]), places[..., 2:]]
            colours.append(pixels[..., :3])
        return torch.cat(parts, -1), torch.stack(colours, -2)

    def _tokens(self, inputs: Tensor, levels: list[Tensor]) -> Tensor:
        """Tokens [B, M, D] after all blocks."""
        image, finest = [], max(max(features.shape[-2:]) for features in levels)
        for features, project, mark in zip(levels, self.level_maps, self.level_marks):
            mapped = project(features) + self._place_code(tuple(features.shape[-2:]), finest).to(
                features
            )
            image.append(mapped.flatten(2).transpose(1, 2) + mark)
        context, tokens = torch.cat(image, 1), self.token_in(inputs)
        for block in self.blocks:
            tokens = block(tokens, context)
        return tokens

    def _place_code(self, shape: tuple[int, ...], finest: int) -> Tensor:
        """Sine codes [dim, h, w] of places in a map; finest: cells along a side of the finest
        map."""
        grid = torch.stack(
            torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij"), -1
        )
        count = -(-self.config.dim // 4)
        if self.config.place_code == 1:
            code = encode(grid, count)[..., 2:]  # without the input itself
        else:
            # From half a wave over the map, which tells its sides apart, to two cells a wave, which
            # is all it can hold.
            waves = torch.pi / 2 * max(finest - 1, 1) ** torch.linspace(0, 1, count)
            angles = (grid[..., None, :] * waves[:, None]).flatten(-2)
            code = torch.cat([angles.sin(), angles.cos()], -1)
        return code[..., : self.config.dim].movedim(-1, 0)

    def _decoded(
        self,
        parts: dict[str, Tensor],
        pixels: Tensor | None,
        view: NetworkInputs,
        surface: QueryPoints,
        head_logits: Tensor,
    ) -> list[Prediction]:
        config = self.config
        colour, confidence, departures = _blended(parts, pixels, view)
        facing = quats_to(view.normals)
        freedom = torch.ones_like(view.own[..., 2:3])
        if config.pixel_aligned:
            freedom = freedom - (1 - config.seen_freedom) * _well_seen(view)[..., None]
        reach = colour.new_tensor([config.tangent_reach, config.tangent_reach, config.normal_reach])
        offset = torch.tanh(parts["offset"]) * reach * freedom * float(config.offsets)
        moved = (quats_to_matrices(facing) @ offset[..., None])[..., 0]
        flat = surface.spacing[:, None] * colour.new_tensor(_FLATNESS)
        scales = flat * torch.exp(1.5 * freedom * torch.tanh(parts["scales"]))
        quats = multiply_quats(facing, rotvecs_to_quats(torch.tanh(parts["turn"])))
        opacity = torch.sigmoid(
            (parts["opacity"] * freedom)[..., 0] + torch.logit(torch.tensor(_OPACITY))
        )
        harmonics = spherical_harmonics.from_rgb(colour)[..., None, :]
        if self.rest_harmonics:
            harmonics = torch.cat([harmonics, 0.1 * parts["harmonics"].unflatten(-1, (-1, 3))], -2)
        heads = torch.sigmoid(head_logits + parts["head"][..., 0])
        clouds = GaussianCloud(view.points + moved, quats, scales, opacity, harmonics)
        return [
            Prediction(clouds[b], heads[b], confidence[b], offset[b], departures[b])
            for b in range(len(colour))
        ]


def _blended(
    parts: dict[str, Tensor], pixels: Tensor | None, view: NetworkInputs
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours [B, N, 3] in [0, 1], how far [B, N] each rests on a pixel that shows it, and
    departures [B, N]."""
    learned = torch.sigmoid(parts["colour"])
    if pixels is None:
        return learned, view.own[..., 2].clamp(0.05, 0.95), torch.zeros_like(learned[..., 0])
    bias = [
        _SEEN_BIAS * (2 * places[..., 2] * places[..., 3].clamp(0, 1) - 0.5)
        for places in (view.own, view.twin)
    ]
    logits = parts["gates"] + torch.stack(
        [bias[0], bias[1] - _TWIN_HANDICAP, torch.zeros_like(bias[0])], -1
    )
    gates = torch.softmax(logits, -1)
    sources = torch.cat([pixels, learned[..., None, :]], -2)
    colour = (gates[..., None] * sources).sum(-2) + 0.5 * torch.tanh(parts["residual"])
    departures = (colour - pixels[..., 0, :]).abs().mean(-1) * _well_seen(view)
    return colour.clamp(0, 1), gates[..., 0], departures


def _well_seen(view: NetworkInputs) -> Tensor:
    """[B, N] in [0, 1]: 1 where the image shows a query from the front, 0 where it does not."""
    return view.own[..., 2] * view.own[..., 3].clamp(0, 1)


def quats_to(normals: Tensor) -> Tensor:
    """Rotations wxyz [*b, 4] that turn +z to unit normals [*b, 3]."""
    x, y, z = normals.unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(x)], -1)
    backwards = quats.new_tensor([0.0, 1.0, 0.0, 0.0])  # -z itself: any half turn across it
    return nn.functional.normalize(torch.where((z < -0.9999)[..., None], backwards, quats), dim=-1)
