"""Initializers: the Gaussians that a fit starts from."""

from fitting.initializers.base import InitializerConfig
from fitting.initializers.from_capture import mesh_seeds, picture_seeds
from fitting.initializers.one_shot.seeds import one_shot_seeds
from fitting.initializers.random import random_seeds

INITIALIZERS = {"mesh": mesh_seeds, "picture": picture_seeds, "random": random_seeds, "one_shot": one_shot_seeds}

__all__ = ["INITIALIZERS", "InitializerConfig"]
