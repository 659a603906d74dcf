"""Seeds that look like the subject: on the head model's surface, and beside it."""

from __future__ import annotations

from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.seeding import seeds_from_pictures, seeds_on_mesh
from likeness.seeding.config import SeedingConfig


def mesh_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """All seeds on the rest mesh."""
    return seeds_on_mesh(capture, frames, config.num_gaussians, config.frames, config.opacity, seed)


def picture_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """``mesh_share`` of the seeds on the mesh, the rest where person, but no mesh, is seen."""
    return seeds_from_pictures(
        capture,
        frames,
        config.num_gaussians,
        config.mesh_share,
        config.frames,
        config.opacity,
        seed,
    )
