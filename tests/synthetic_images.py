"""Images of a synthetic subject whose truth is known, before a wall."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import torch

from likeness.head_models import HEAD_MODELS
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from likeness.synthetic.subject import SyntheticPerson, SyntheticSubject
from likeness.synthetic.truth import DemoConfig

SIZE = 320
FOCAL = 2.5  # long sides


@functools.cache
def subject() -> SyntheticSubject:
    model = HEAD_MODELS["anny"]()
    return SyntheticSubject(model, SyntheticPerson.random(model, 1), texture_size=256)


def state(yaw: float = 0.0, **expression: float) -> HeadState:
    """A head in front of the camera, turned by degrees to the subject's left, with coefficients by
    name."""
    model = subject().model
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotvecs_to_matrices(
        torch.tensor([0.0, math.radians(yaw), 0.0])
    )
    pose = make_transform(rotation, torch.tensor([0.0, -0.03, DemoConfig().distance]))
    neutral = HeadState.neutral(len(model.expression_names), len(model.joint_names), pose)
    values = neutral.expression.clone()
    for name, value in expression.items():
        values[model.expression_names.index(name)] = value
    return dataclasses.replace(neutral, expression=values)


@functools.cache
def _picture(
    yaw: float, size: int, expression: tuple[tuple[str, float], ...]
) -> tuple[np.ndarray, np.ndarray]:
    camera = dataclasses.replace(DemoConfig(), size=size).camera
    rgb, alpha = subject().render(state(yaw, **dict(expression)), camera)
    picture = rgb + (1 - alpha[..., None]) * subject().wall(size, size)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8), (alpha * 255).round().astype(
        np.uint8
    )


def picture(yaw: float = 0.0, size: int = SIZE, **expression: float) -> np.ndarray:
    """uint8 [size, size, 3] RGB."""
    return _picture(yaw, size, tuple(sorted(expression.items())))[0].copy()


def alpha(yaw: float = 0.0, size: int = SIZE) -> np.ndarray:
    """The true matte, uint8 [size, size]."""
    return _picture(yaw, size, ())[1].copy()


def save(path: Path, array: np.ndarray, **kwargs) -> Path:
    from PIL import Image

    Image.fromarray(array).save(path, **kwargs)
    return path
