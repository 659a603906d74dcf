"""The inside of the mouth: which part of a head model it is, and what of it can be seen at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import LIPS
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState

TEETH = ("teeth_upper", "teeth_lower")
INSIDE = (*TEETH, "tongue", "mouth_cavity")
"""Names of the parts, as far as a head model has them."""

# how mouths open: coefficients of these expressions, and of their other sides
_OPEN = (
    {"jawOpen": 0.25},
    {"jawOpen": 1.0},
    {"jawOpen": 0.6, "mouthUpperUp": 1.0, "mouthLowerDown": 1.0},
    {"mouthUpperUp": 1.0, "mouthLowerDown": 1.0, "mouthSmile": 0.6},
    {"jawOpen": 0.6, "mouthSmile": 1.0},
    {"jawOpen": 0.4, "mouthFunnel": 1.0},
)
_YAWS_DEG, _PITCHES_DEG = (-50, -25, 0, 25, 50), (-20, 0, 20)
_MIN_VIEWS = 3  # of these that show a face, of all mouths
_DISTANCE_M, _CELLS, _CELL_M = 0.6, 96, 1e-3


def inside_mouth(model: HeadModel) -> Tensor:
    """[V] bool: the vertices of the mouth's inside. The border that the cavity shares with the lips
    belongs to these."""
    numbers = [model.part_names.index(part) for part in INSIDE if part in model.part_names]
    return torch.isin(model.vertex_part, torch.tensor(numbers, device=model.vertex_part.device))


def inside_faces(model: HeadModel) -> Tensor:
    """[F] bool: faces between vertices of the mouth's inside."""
    return inside_mouth(model)[model.faces].all(-1)


def wide_open(model: HeadModel) -> HeadState:
    """The state with the mouth open as far as it goes."""
    return _state(model, {"jawOpen": 1.0})


def exposed_faces(model: HeadModel) -> Tensor:
    """[F] bool: faces that open mouths show from the front or from some side within 50 degrees."""
    views = torch.zeros(len(model.faces), dtype=torch.long)
    head = model.shaped(model.neutral_identity())
    K = torch.tensor(
        [[_DISTANCE_M / _CELL_M, 0, _CELLS / 2], [0, _DISTANCE_M / _CELL_M, _CELLS / 2], [0, 0, 1]]
    )
    for opening in _OPEN:
        mesh = head.posed(_state(model, opening))
        lips = mesh.landmarks()[list(LIPS)].mean(0)
        for yaw in map(math.radians, _YAWS_DEG):
            for pitch in map(math.radians, _PITCHES_DEG):
                ray = torch.tensor(
                    [
                        math.sin(yaw) * math.cos(pitch),
                        math.sin(pitch),
                        math.cos(yaw) * math.cos(pitch),
                    ]
                )
                camera = Camera.looking_at(
                    K, lips + _DISTANCE_M * ray, lips, torch.tensor([0.0, 1, 0]), _CELLS, _CELLS
                )
                faces = rasterize_camera(mesh.vertices, model.faces, camera).face_index
                views[torch.from_numpy(faces[faces >= 0]).long()] += 1
    return views >= _MIN_VIEWS


def _state(model: HeadModel, coefficients: dict[str, float]) -> HeadState:
    """The state with coefficients of expressions, on both sides where they have two."""
    state = model.neutral_state()
    for number, name in enumerate(model.expression_names):
        both = name.removesuffix("Left").removesuffix("Right")
        state.expression[number] = coefficients.get(both, 0.0)
    return state
