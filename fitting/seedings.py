"""Initializers: the Gaussians that a fit starts from."""

from likeness.one_shot.seeds import one_shot_seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.from_capture import mesh_seeds, picture_seeds
from likeness.seeding.random import random_seeds
from likeness.seeding.unprojected import unprojected_image_seeds

SEEDINGS = {
    "mesh": mesh_seeds,
    "picture": picture_seeds,
    "lifted": unprojected_image_seeds,
    "one_shot": one_shot_seeds,
    "random": random_seeds,
}

AUTO = {"video": "one_shot", "pictures": "lifted"}
"""What ``--init auto`` stands for, by what is fitted: what won in measurements."""

__all__ = ["AUTO", "SEEDINGS", "SeedingConfig"]
