"""What the seedings are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from likeness.scene.bounds import Count, Gaussians, Share


@dataclasses.dataclass(frozen=True)
class SeedingConfig:
    """Where the Gaussians of a fit start."""

    num_gaussians: Gaussians = 2500
    """Gaussians at the start."""
    mesh_share: Share = 0.6
    """Share of them on the head model's surface; the others on what the matte shows beside it
    (``picture`` and ``one_shot``)."""
    frames: Count = 12
    """Training frames that colours and hair are taken from (``mesh`` and ``picture``)."""
    opacity: Share = 0.5
    """Opacity at the start (all but ``one_shot``, which predicts it)."""
    sources: Count = 3
    """Training frames that the network sees (``one_shot``)."""
    weights: Path | None = None
    """File of the network's weights (``one_shot``); unless said, those that come with the
    program."""
