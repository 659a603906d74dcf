"""Sizes of the one-shot network. ``configs/one_shot*.yaml`` hold those of training runs."""

from __future__ import annotations

import dataclasses
from typing import Literal

from likeness.renderers.screen_refiner import RefinerConfig
from likeness.scene.bounds import (
    Count,
    CountOrZero,
    Degree,
    Gaussians,
    LargeCount,
    NonNegative,
    Pixels,
    Positive,
    Share,
    Size,
    SmallCount,
)

_MAX_DIM_OF_OCTAVES = 4 * 127  # 2^126 π is the largest octave in float32


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """What turns the image into features."""

    kind: Literal["conv", "dinov2"] = "conv"
    """A name in BACKBONES. conv: compact, trained with the rest. dinov2: ViT-S/14, published
    weights, frozen."""
    widths: tuple[Size, ...] = (16, 32, 64, 96, 128)
    """conv: channels at 1/2, 1/4 ... of the resolution."""
    sees_mesh: bool = True
    """conv: also sees where the tracked mesh lies (its coordinates at rest, drawn in the
    image)."""
    layers: tuple[SmallCount, ...] = (3, 6, 9, 12)
    """dinov2: blocks whose outputs are the scales of the features."""
    fine_channels: Size = 24
    """Channels of the fine map that queries and unprojected cells read at their own pixels."""


@dataclasses.dataclass(frozen=True)
class UnprojectionConfig:
    """Gaussians unprojected from the image's plane to both sides of the head's (GAGAvatar's dual
    lifting)."""

    enabled: bool = True
    """Off: only the queries on the head model."""
    planes: Literal["dual", "single"] = "dual"
    """dual: a front and a back Gaussian per cell. single: the front one alone (GAGAvatar's
    "one-plane lifting")."""
    region: Literal["beside", "all"] = "beside"
    """beside: where the matte shows a person, but no mesh is seen (hair, clothes). all: all of the
    person."""
    grid: Count = 64
    """Cells along a side of the image."""
    reach: Positive = 0.16
    """Metres that a Gaussian may lie before or behind the plane through the skull's centre."""


@dataclasses.dataclass(frozen=True)
class OneShotConfig:
    """The network."""

    picture_size: Pixels = 256
    """Side of the square image that it sees, in pixels."""
    queries: Gaussians = 6000
    """Gaussians on the head model that it is trained with; it can be asked for any number."""
    tokens: LargeCount = 320
    """Query points that attend to one another and to the image; the other queries read the
    nearest three of them. 0: all queries do (LAM)."""
    dim: Size = 128
    """Channels of the tokens."""
    blocks: CountOrZero = 3
    """Blocks of self-attention, cross-attention and MLP."""
    heads: Count = 4
    """Attention heads."""
    place_code: Literal[1, 2] = 2
    """Version of the code that says where in the image a feature is. 2: waves from twice the
    map's width down to two cells of the finest map. 1: dim / 4 octaves, whatever the maps resolve,
    with which the weights that come with the program were trained; they are no numbers from 512
    channels on."""
    vertex_features: Size = 16
    """Learned features per vertex of the head model, interpolated to the queries."""
    hidden: Size = 128
    """Channels of the decoder of the queries."""
    sh_degree: Degree = 0
    """Degree of the harmonics of the colour, 0 to 3."""
    pixel_aligned: bool = True
    """Queries also read the image where they are projected to, and where their mirrored twins
    are. Off: they know it by attention alone (LAM)."""
    seen_freedom: Share = 0.05
    """How much of their reach, and of their range of sizes and opacities, queries have that the
    image shows well (with ``pixel_aligned``). With all of it, 1, a network that has seen few
    people shuffles them about until brows are those that it knows and glasses are gone."""
    offsets: bool = True
    """Queries may leave the surface. Off: they stay on the head model ("w/o offsets")."""
    normal_reach: NonNegative = 0.04
    """Metres that a query may move along the normal."""
    tangent_reach: NonNegative = 0.008
    """Metres that it may move along the surface."""
    backbone: BackboneConfig = BackboneConfig()
    """What turns the image into features."""
    lifting: UnprojectionConfig = UnprojectionConfig()
    """Gaussians beside the head model."""
    refiner: RefinerConfig = RefinerConfig()
    """What corrects the rendered images."""

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim: expected a multiple of heads ({self.heads}), got {self.dim}")
        if self.place_code == 1 and self.dim > _MAX_DIM_OF_OCTAVES:
            raise ValueError(
                f"dim: expected at most {_MAX_DIM_OF_OCTAVES} with place_code=1, got {self.dim}"
            )
