"""Initializers: the Gaussians that a fit starts from."""

from fitting.initializers.base import InitializerConfig
from fitting.initializers.from_capture import mesh_seeds, picture_seeds
from fitting.initializers.lifted import lift_pictures
from fitting.initializers.random import random_seeds

INITIALIZERS = {"mesh": mesh_seeds, "picture": picture_seeds, "lifted": lift_pictures, "random": random_seeds}

AUTO = {"video": "picture", "pictures": "lifted"}
"""What ``--init auto`` stands for, by what is fitted: what won in measurements."""

__all__ = ["AUTO", "INITIALIZERS", "InitializerConfig"]
