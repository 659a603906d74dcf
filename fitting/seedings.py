"""Where the Gaussians of a fit start: one function and one line for each way."""

from collections.abc import Callable

from likeness.one_shot.seeds import one_shot_seeds
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import mesh_seeds
from likeness.seeding.off_mesh import matte_seeds
from likeness.seeding.random import random_seeds
from likeness.seeding.unprojection import unprojected_seeds

SEEDINGS: dict[str, Callable[[Capture, FrameStore, SeedingConfig, int], Seeds]] = {
    "mesh": mesh_seeds,
    "picture": matte_seeds,
    "lifted": unprojected_seeds,
    "one_shot": one_shot_seeds,
    "random": random_seeds,
}

AUTO = {"video": "one_shot", "pictures": "lifted"}
"""What ``--init auto`` stands for, by what is fitted: what won in measurements."""
