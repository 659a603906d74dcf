"""Single moments of synthetic subjects: faces, poses, cameras and lights drawn at random, not in a
row."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from likeness.head_models.base import HeadModel
from likeness.scene.camera import Camera
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from likeness.synthetic.glasses import Glasses
from likeness.synthetic.motion import GRIMACES, VISEMES
from likeness.synthetic.subject import Light, SyntheticPerson

_SMILE = {"mouthSmile": 1.0, "cheekSquint": 0.45, "eyeSquint": 0.3, "mouthDimple": 0.2}
_BROWS = (
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.3},
    {"browDown": 0.8, "eyeSquint": 0.3, "noseSneer": 0.2},
)
_NECK = (0.0, -0.105, -0.085)  # the point about which the head turns, in the head frame


def random_person(model: HeadModel, seed: int) -> SyntheticPerson:
    """As ``SyntheticPerson.random``, with lights from more directions and of more strengths, one in
    seven with glasses."""
    person = SyntheticPerson.random(model, seed)
    rng = np.random.default_rng((seed, 21))
    side = 1 if rng.random() < 0.5 else -1
    lamp = (side * rng.uniform(0.05, 0.9), rng.uniform(-0.85, -0.15), -rng.uniform(0.4, 0.9))
    fill = (-side * rng.uniform(0.4, 0.9), rng.uniform(-0.4, 0.1), -0.55)
    share = rng.uniform(0.25, 1.0)  # of the lamp in the light; the rest comes from everywhere
    strengths = (
        0.62 * share,
        rng.uniform(0.08, 0.35),
        0.36 + 0.25 * (1 - share),
        rng.uniform(0.1, 0.3),
    )
    light = Light(lamp, fill, strengths)
    glasses = Glasses.random(rng) if rng.random() < 1 / 7 else None
    return dataclasses.replace(person, light=light, glasses=glasses)


def random_camera(rng: np.random.Generator, size: int) -> tuple[Camera, float]:
    """A camera in the origin of the world with ``size`` squared pixels, and the metres from it to
    the face."""
    focal, field = rng.uniform(1.4, 3.5), rng.uniform(0.36, 0.56)
    K = torch.tensor(
        [[focal * size, 0.0, size / 2], [0.0, focal * size, size / 2], [0.0, 0.0, 1.0]]
    )
    return Camera(K.float(), torch.eye(4), size, size), float(focal * field)


def random_expression(names: tuple[str, ...], rng: np.random.Generator) -> torch.Tensor:
    """Coefficients [E] in [0, 1]: at rest, speaking, smiling, blinking or pulling a face, eyes left
    out."""
    values = np.zeros(len(names), np.float32)

    def add(shape: dict[str, float], strength: float) -> None:
        for name, part in shape.items():
            for side in ("", "Left", "Right"):
                if name + side in names:
                    wobble = 1.0 if not side else rng.uniform(0.85, 1.15)
                    values[names.index(name + side)] += part * strength * wobble

    if rng.random() < 0.6:
        add(VISEMES[list(VISEMES)[rng.integers(len(VISEMES))]], rng.uniform(0.3, 1.3))
    if rng.random() < 0.45:
        add(_SMILE, rng.uniform(0.2, 1.0))
    if rng.random() < 0.4:
        add(_BROWS[rng.integers(2)], rng.uniform(0.3, 1.0))
    if rng.random() < 0.15:
        add({"eyeBlink": 1.0}, rng.uniform(0.3, 1.1))
    if rng.random() < 0.15:
        add(GRIMACES[list(GRIMACES)[rng.integers(len(GRIMACES))]], rng.uniform(0.4, 1.0))
    return torch.from_numpy(np.clip(values, 0, 1))


def random_states(
    model: HeadModel, count: int, distance: float, rng: np.random.Generator
) -> HeadState:
    """States [count] before a camera that looks from up to 35° aside; the head turns by up to 25°
    more on its neck."""
    names, states = model.expression_names, []
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    offset = torch.from_numpy(rng.uniform([-0.02, -0.05, -0.03], [0.02, 0.02, 0.03])).float()
    rest[:3, 3] = torch.tensor([0.0, 0.0, distance]) + offset
    for _ in range(count):
        # pitch, yaw, roll of the whole person
        around = np.radians(rng.uniform([-8, -35, -4], [12, 35, 4]))
        T_world_body = rest @ _rotation_about(around, (0.0, -0.03, -0.06))
        on_neck = np.radians(np.clip(rng.normal(0, [7, 12, 4]), [-16, -25, -10], [16, 25, 10]))
        T_world_head = T_world_body @ _rotation_about(on_neck, _NECK)
        gaze = torch.from_numpy(np.clip(np.radians(rng.normal(0, [9, 5])), -0.4, 0.4)).float()
        gaze = gaze.expand(len(model.joint_names), 2)
        expression = torch.maximum(
            random_expression(names, rng), gaze_expression(gaze[None], names)[0].clamp(0, 1)
        )
        states.append(HeadState(expression, gaze_quats(gaze), T_world_head, T_world_body))
    return HeadState.stack(states)


def _rotation_about(angles: np.ndarray, about: tuple[float, float, float]) -> torch.Tensor:
    """[4, 4] rotation by pitch, yaw and roll in radians about a point of the head frame."""
    axes = torch.eye(3)
    pitch, yaw, roll = (
        rotvecs_to_matrices(float(angle) * axes[k]) for k, angle in enumerate(angles)
    )
    rotation, centre = yaw @ pitch @ roll, torch.tensor(about)
    return make_transform(rotation, centre - rotation @ centre)
