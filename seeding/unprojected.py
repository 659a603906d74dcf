"""Seeds that are few pictures themselves, lifted onto the head."""

from __future__ import annotations

from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.unprojection import unprojected_seeds


def unprojected_image_seeds(
    capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int
) -> Seeds:
    """All seeds; their opacity is their own."""
    return unprojected_seeds(capture, frames, config.num_gaussians, seed)
