"""Seeds drawn at random in the head's box, as GaussianHead starts."""

from __future__ import annotations

import torch

from fitting.initializers.base import InitializerConfig
from preprocess.seeding.beside import tie_to_nearest
from preprocess.seeding.surface import seed_cloud
from scene.capture import Capture
from scene.pictures import FrameStore
from scene.seeds import Seeds

_HALF_SIZE_M = 0.2
_CENTRE = torch.tensor([0.0, 0.0, -0.08])


def random_seeds(capture: Capture, frames: FrameStore, config: InitializerConfig, seed: int) -> Seeds:
    """Points uniform in a box of 40 cm around the skull, grey, as large as their spacing."""
    del frames
    generator = torch.Generator().manual_seed(seed)
    points = (torch.rand(config.num_gaussians, 3, generator=generator) * 2 - 1) * _HALF_SIZE_M + _CENTRE
    colours = torch.rand(config.num_gaussians, 3, generator=generator)
    spacing = 2 * _HALF_SIZE_M / config.num_gaussians ** (1 / 3) * 0.5
    cloud = seed_cloud(points, colours, torch.full((len(points),), spacing), config.opacity)
    return Seeds(cloud, torch.full((len(points),), 0.7), tie_to_nearest(capture, points))
