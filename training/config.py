"""The configuration of a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from likeness.one_shot.config import OneShotConfig
from likeness.scene.bounds import (
    Count,
    CountOrZero,
    LargeCount,
    NonNegative,
    Pixels,
    Positive,
    Rate,
    Share,
    Weight,
)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What samples are made of: a source image of a person, and others of the same person to be
    shown."""

    targets: Count = 3
    """Target images per source (LAM: 8 frames of a video, one of which is the source)."""
    target_size: Pixels = 256
    """Side of the targets in pixels."""
    fewest_queries: Share = 0.7
    """Every step draws its number of queries between this share and all of ``model.queries``."""
    pose_noise_deg: NonNegative = 1.0
    """Standard deviation of the error that the source's tracked head rotation gets, as a tracker
    has."""
    shift_noise_m: NonNegative = 0.002
    """Of its position, across the view; three times that along it."""
    identity_noise: NonNegative = 0.15
    """Of the identity's coefficients, which have unit variance over people."""
    expression_noise: NonNegative = 0.06
    """Of the source's expression coefficients."""
    colour_jitter: Share = 0.2
    """Strength of one random change of brightness, tint and gamma for all images of a sample."""
    cache_gb: NonNegative = 4.0
    """Memory for decoded images."""
    workers: CountOrZero = 0
    """Processes that make samples; 0: the training process itself."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (LAM's equation 10, with SSIM beside L1)."""

    l1: Weight = 1.0
    """Mean absolute difference."""
    dssim: Weight = 0.2
    """1 - SSIM."""
    perceptual: Weight = 0.1
    """VGG loss; off where its weights are not here."""
    matte: Weight = 0.5
    """Mean absolute difference of alpha and matte."""
    offsets: Weight = 0.02
    """Mean square of the queries' offsets, in centimetres."""
    departures: Weight = 1.0
    """Mean difference of well seen queries' colours and the pixels that show them: without it the
    network paints the brows and lips of those whom it has learned from over those that it sees."""
    lifting: Weight = 0.0
    """GAGAvatar's lifting loss, per metre; meant for ``model.lifting.region=all``."""
    refined: Weight = 1.0
    """The image's losses (l1, dssim, matte, perceptual) of the refined one, beside those of the
    coarse one (with ``model.refiner.enabled``)."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    model: OneShotConfig = OneShotConfig()
    """The network."""
    data: DataConfig = DataConfig()
    """The samples."""
    loss: LossConfig = LossConfig()
    """The objective."""
    start: Path | None = None
    """File of weights to start from; a refiner that it lacks starts as the identity."""
    trained: Literal["all", "refiner"] = "all"
    """refiner: the refiner and its features alone learn, all else stays as in ``start``."""
    batch: Count = 2
    """Sources per step over all processes, before accumulation."""
    accumulate: Count = 1
    """Batches whose gradients are summed into one step."""
    rate: Rate = 1e-3
    """Learning rate after the warm-up; falls to 1% by a cosine."""
    warm_up: LargeCount = 100
    """LargeCount of the warm-up."""
    weight_decay: Share = 0.01
    """Of AdamW."""
    clip: Positive = 1.0
    """Most norm of a step's gradient."""
    ema: Share = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    half_until: Share = 0.5
    """Share of the run during which targets have half the resolution."""
    mixed_precision: bool = True
    """bfloat16 in the network, where the device is a GPU."""
    save_every_s: NonNegative = 60.0
    """Seconds between checkpoints."""
    picture_every_s: NonNegative = 120.0
    """Seconds between images in TensorBoard."""
