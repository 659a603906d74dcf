"""Seeds drawn at random in the head's box, as GaussianHead starts."""

from __future__ import annotations

import torch

from likeness.head_models import shaped_head
from likeness.head_models.surface import bind_to_skin
from likeness.scene.capture import Capture
from likeness.scene.extent import SCENE_CENTRE_M, SCENE_EXTENT_M, SCENE_RADIUS_M
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import round_cloud

# Half of the 1% that GaussianHead prunes from. As large as their spacing, which is three times that
# limit, all would go in the first round of a fit that is too short to shrink them.
_SIZE_M = 0.005 * SCENE_EXTENT_M


def random_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """Points uniform in the scene's box, in random colours, half as large as GaussianHead
    allows."""
    del frames
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(config.num_gaussians, 3, generator=generator) * 2 - 1
    points = points * SCENE_RADIUS_M + torch.tensor(SCENE_CENTRE_M)
    colours = torch.rand(config.num_gaussians, 3, generator=generator)
    cloud = round_cloud(points, colours, torch.full((len(points),), _SIZE_M), config.opacity)
    rig = bind_to_skin(shaped_head(capture), points)
    return Seeds(cloud, torch.full((len(points),), 0.7), rig)
