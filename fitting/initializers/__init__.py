"""Initializers: the Gaussians that a fit starts from."""

from fitting.initializers.base import InitializerConfig
from fitting.initializers.from_capture import mesh_seeds, picture_seeds
from fitting.initializers.lifted import lift_pictures
from fitting.initializers.one_shot.seeds import one_shot_seeds
from fitting.initializers.random import random_seeds

INITIALIZERS = {
    "mesh": mesh_seeds, "picture": picture_seeds, "lifted": lift_pictures, "one_shot": one_shot_seeds,
    "random": random_seeds,
}  # fmt: skip

AUTO = {"video": "one_shot", "pictures": "lifted"}
"""What ``--init auto`` stands for, by what is fitted: what won in measurements."""

__all__ = ["AUTO", "INITIALIZERS", "InitializerConfig"]
