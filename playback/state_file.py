"""Head states as a file that any program can write: NumPy's ``.npz``, plain arrays only.

================  ==============================================================================
expression        [T, E] coefficients, 0 neutral, 1 full
expression_names  [E] text (dtype U): the avatar's expression names, each once, in any order
joints            [T, J, 4] unit quaternions wxyz of the joints relative to rest
joint_names       [J] text (dtype U): the avatar's joint names, each once, in any order
T_world_head      [T, 4, 4] rigid, from the head frame to the world (the recording's camera), metres
T_world_body      [T, 4, 4] rigid, from the body frame to the world; T_world_head at rest
sway              [T, C, 2] metres, offsets of the lattice in scene/lattice.py; may be left out
fps               [] frames per second
================  ==============================================================================

The frames: +x to the subject's left, +y up, +z out of the face; the world's camera has +x right, +y
down, +z forward. Nothing in such a file is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from likeness.playback.input_checks import rigid_problem
from likeness.scene.errors import UserError, hint
from likeness.scene.files import atomic_path
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.tensor_files import Array, read_arrays

_WHAT, _REMEDY = "file of head states", "likeness drive --save-states makes one of any driver"
_MAX_BYTES = 1 << 30  # unpacked: hours of states; what claims more is not a file of states
_MAX_FPS = 1000.0
_NAMES = {"expression_names": Array(("names",), "text"), "joint_names": Array(("joints",), "text")}
_DECLARED = {
    "expression": Array(("T", "E"), "real"),
    "joints": Array(("T", "J", 4), "real"),
    "T_world_head": Array(("T", 4, 4), "real"),
    "T_world_body": Array(("T", 4, 4), "real"),
    "sway": Array(("T", NUM_POINTS, 2), "real", optional=True),
    "fps": Array((), "real"),
}


def save_states(
    path: Path,
    states: HeadState,
    fps: float,
    expression_names: Sequence[str],
    joint_names: Sequence[str],
) -> None:
    """Writes states [T] as an ``.npz`` file, whole or not at all."""
    if states.expression.ndim != 2:
        raise ValueError(
            f"save_states: expected states [T], got a batch of shape {list(states.batch_shape)}"
        )
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            **{name: tensor.detach().cpu().numpy() for name, tensor in states.to_tensors().items()},
            expression_names=np.array(list(expression_names), dtype=np.str_),
            joint_names=np.array(list(joint_names), dtype=np.str_),
            fps=np.float64(fps),
        )


def load_states(
    path: Path, expression_names: Sequence[str], joint_names: Sequence[str]
) -> tuple[HeadState, float]:
    """States [T] float32, ordered by the names given (the avatar's), and frames per second.

    Raises UserError that names the file and the field: missing, of the wrong shape or kind, not
    finite, not a rotation, or with names that the avatar has not, or lacks.
    """
    path = Path(path)
    names = read_arrays(path, _WHAT, _NAMES, most=_MAX_BYTES, remedy=_REMEDY)
    columns = _order(path, "expression_names", names["expression_names"], expression_names)
    rows = _order(path, "joint_names", names["joint_names"], joint_names)
    sizes = {"E": len(expression_names), "J": len(joint_names)}
    arrays = read_arrays(path, _WHAT, _DECLARED, sizes, _MAX_BYTES, _REMEDY)
    if len(arrays["expression"]) == 0:
        raise UserError(f"{path}: expression: expected at least one frame; {_REMEDY}")
    for name in ("T_world_head", "T_world_body"):
        for frame, matrix in enumerate(arrays[name]):
            if (problem := rigid_problem(matrix)) is not None:
                raise UserError(f"{path}: {name} of frame {frame}: {problem}")
    _check_quats(path, arrays["joints"])
    fps = float(arrays["fps"])
    if not 0 < fps <= _MAX_FPS:
        raise UserError(
            f"{path}: fps: expected a number above 0 and at most {_MAX_FPS:g}, got {fps:g}"
        )
    arrays |= {"expression": arrays["expression"][:, columns], "joints": arrays["joints"][:, rows]}
    tensors = {
        name: torch.from_numpy(np.array(value, np.float32)) for name, value in arrays.items()
    }
    return HeadState.from_tensors(tensors), fps


def _order(path: Path, field: str, found: np.ndarray, known: Sequence[str]) -> list[int]:
    """Where each known name stands in the file."""
    names = found.tolist()
    for name in names:
        if name not in known:
            raise UserError(
                f"{path}: {field}: the avatar has no {name!r}; {hint(name, list(known))}"
            )
    if len(set(names)) < len(names):
        raise UserError(
            f"{path}: {field}: {next(n for n in names if names.count(n) > 1)!r} stands there twice"
        )
    missing = [name for name in known if name not in names]
    if missing:
        raise UserError(
            f"{path}: {field}: lacks {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}"
        )
    return [names.index(name) for name in known]


def _check_quats(path: Path, joints: np.ndarray) -> None:
    wrong = np.abs(np.linalg.norm(joints, axis=-1) - 1) > 1e-2
    if wrong.any():
        frame = int(np.argmax(wrong.any(-1)))
        raise UserError(
            f"{path}: joints of frame {frame}: not a unit quaternion; expected wxyz of length 1"
        )
