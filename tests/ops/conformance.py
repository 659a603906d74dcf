"""Numbers that every implementation of an operation must give, in any language: conformance.json.

    python -m tests.ops.conformance

writes it anew from the references in double precision, where a formula has changed on purpose.
Quaternions wxyz, matrices by rows, metres and radians.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likeness.fitting.avatars.anchoring import bent_pose
from likeness.ops import harmonics
from likeness.ops.deform import deform, displacement, lattice_description
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import (
    make_transform,
    matrices_to_rotvecs,
    normalize_quats,
    quats_to_matrices,
    rotvecs_to_matrices,
    rotvecs_to_quats,
)

FILE = Path(__file__).with_name("conformance.json")


def vectors() -> dict[str, Any]:
    """By operation its inputs and outputs, as nested lists."""
    g = torch.Generator().manual_seed(0)

    def some(*shape: int, scale: float = 1.0) -> Tensor:
        values = scale * torch.randn(*shape, generator=g, dtype=torch.float64)
        return torch.tensor([round(v, 4) for v in values.flatten().tolist()]).double().view(shape)

    rotvecs = torch.cat([some(4, 3), some(1, 3, scale=1e-4), torch.zeros(1, 3).double()])
    directions = torch.nn.functional.normalize(some(5, 3), dim=-1)
    rotation = rotvecs_to_matrices(some(3))
    count, expressions, vertices = 7, 3, 5
    poses = [
        make_transform(rotvecs_to_matrices(some(3, scale=0.3)), some(3, scale=0.1))
        for _ in range(2)
    ]
    state = HeadState(
        some(expressions).abs(),
        normalize_quats(some(2, 4)),
        *poses,
        some(NUM_POINTS, 2, scale=0.01),
    )
    rig = RigBinding(
        some(expressions, vertices, 3, scale=0.01),
        torch.arange(3 * count).view(count, 3) % vertices,
        some(count, 3).abs() / 6,
    )
    cloud = GaussianCloud(
        some(count, 3, scale=0.15),
        normalize_quats(some(count, 4)),
        some(count, 3).abs(),
        torch.full((count,), 0.5).double(),
        some(count, 9, 3),
    )
    weights = torch.linspace(0, 1, count).double()
    moved = deform(
        cloud,
        displacement=displacement(state.expression, rig),
        secondary_motion=state.secondary_motion,
        T_body=state.T_head_body,
        head_weights=weights,
    )
    layers = [(some(4, expressions + 3 * 2 + 6), some(4)), (some(2, 4), some(2))]
    inputs = torch.cat([state.expression, bent_pose(state)])
    codes = layers[1][0] @ (layers[0][0] @ inputs + layers[0][1]).clamp_min(0) + layers[1][1]
    samples, solve = harmonics.rotation_samples(2)
    return {
        "rotations": _lists(
            rotvecs=rotvecs,
            quats=rotvecs_to_quats(rotvecs),
            matrices=rotvecs_to_matrices(rotvecs).flatten(1),
        ),
        "harmonics": _lists(directions=directions, values=harmonics.basis(directions, 3)),
        "harmonics_rotation": _lists(
            rotation=rotation.flatten(),
            samples=samples,
            solve=solve,
            matrix=harmonics.rotation_matrices(rotation, 2),
        ),
        "deform": _lists(
            **_state(state),
            secondary_motion=state.secondary_motion,
            shapes=rig.shapes,
            vertices=rig.vertices,
            weights=rig.weights,
            head_weights=weights,
            **cloud.fields(),
            moved_means=moved.means,
            moved_quats=moved.quats,
            moved_sh=moved.sh,
        )
        | {"lattice": lattice_description()},
        "codes": _lists(
            **_state(state), layers=[part for layer in layers for part in layer], codes=codes
        ),
    }


def state_of(case: dict[str, Any]) -> HeadState:
    """The state of a case in single precision."""
    head, body = (
        make_transform(quats_to_matrices(pose[:4]), pose[4:])
        for pose in (torch.tensor(case["head"]), torch.tensor(case["body"]))
    )
    lattice = case.get("secondary_motion")
    return HeadState(
        torch.tensor(case["expression"]),
        torch.tensor(case["joints"]),
        head,
        body,
        torch.zeros(NUM_POINTS, 2) if lattice is None else torch.tensor(lattice),
    )


def _state(state: HeadState) -> dict[str, Tensor]:
    """Poses as quaternion and translation, [7]."""
    poses = {"head": state.T_world_head, "body": state.T_world_body}
    return {"expression": state.expression, "joints": state.joints} | {
        name: torch.cat([rotvecs_to_quats(matrices_to_rotvecs(T[:3, :3])), T[:3, 3]])
        for name, T in poses.items()
    }


def _lists(**tensors: Tensor | list[Tensor]) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in tensors.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), separators=(",", ":")) + "\n", encoding="utf-8")
