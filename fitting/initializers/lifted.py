"""Seeds that are few pictures themselves, lifted onto the head."""

from __future__ import annotations

from fitting.initializers.base import InitializerConfig
from preprocess.seeding.lifting import lifted_seeds
from scene.capture import Capture
from scene.pictures import FrameStore
from scene.seeds import Seeds


def lift_pictures(capture: Capture, frames: FrameStore, config: InitializerConfig, seed: int) -> Seeds:
    """All seeds; their opacity is their own."""
    return lifted_seeds(capture, frames, config.num_gaussians, seed)
