"""Initializers: the Gaussians that a fit starts from."""

from fitting.initializers.base import InitializerConfig
from fitting.initializers.from_capture import mesh_seeds, picture_seeds
from fitting.initializers.lifted import lift_pictures
from fitting.initializers.random import random_seeds

INITIALIZERS = {"mesh": mesh_seeds, "picture": picture_seeds, "lifted": lift_pictures, "random": random_seeds}

__all__ = ["INITIALIZERS", "InitializerConfig"]
