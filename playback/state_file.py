"""Head states as a file that any program can write: NumPy's ``.npz``, plain arrays only.

================  ===============================================================================================
expression        [T, E] coefficients, 0 neutral, 1 full
expression_names  [E] text (dtype U): the avatar's expression names, each once, in any order
joints            [T, J, 4] unit quaternions wxyz of the joints relative to rest
joint_names       [J] text (dtype U): the avatar's joint names, each once, in any order
T_world_head      [T, 4, 4] rigid, from the head frame to the world (the frame of the recording's camera), metres
T_world_body      [T, 4, 4] rigid, from the body frame to the world; equal to T_world_head at rest
sway              [T, C, 2] metres, offsets of the control points of scene/sway.py; may be left out
fps               [] frames per second
================  ===============================================================================================

The frames: +x to the subject's left, +y up, +z out of the face; the world's camera has +x right, +y down, +z forward.
Nothing in such a file is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from playback.input_checks import hint, rigid_problem
from scene.errors import UserError
from scene.files import atomic_path
from scene.head_state import HeadState
from scene.sway import NUM_POINTS

_FIELDS = ("expression", "expression_names", "joints", "joint_names", "T_world_head", "T_world_body", "fps")
_MAX_BYTES = 1 << 30  # unpacked: hours of states; what claims more is not a file of states
_MAX_FPS = 1000.0


def save_states(
    path: Path, states: HeadState, fps: float, expression_names: Sequence[str], joint_names: Sequence[str]
) -> None:
    """Writes states [T] as an ``.npz`` file, whole or not at all."""
    arrays = {
        "expression": states.expression, "joints": states.joints,
        "T_world_head": states.T_world_head, "T_world_body": states.T_world_body, "sway": states.sway,
    }  # fmt: skip
    if states.expression.ndim != 2:
        raise ValueError(f"save_states: expected states [T], got a batch of shape {list(states.batch_shape)}")
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, **{name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()},
            expression_names=np.array(list(expression_names), dtype=np.str_),
            joint_names=np.array(list(joint_names), dtype=np.str_), fps=np.float64(fps),
        )  # fmt: skip


def load_states(
    path: Path, expression_names: Sequence[str], joint_names: Sequence[str]
) -> tuple[HeadState, float]:
    """States [T] float32, ordered by the names given (the avatar's), and frames per second.

    Raises UserError that names the file and the field: missing, of the wrong shape or kind, not finite, not a rotation,
    or with names that the avatar has not, or lacks.
    """
    path = Path(path)
    arrays = _read(path)
    columns = _order(path, "expression_names", arrays["expression_names"], expression_names)
    rows = _order(path, "joint_names", arrays["joint_names"], joint_names)
    length = _length(path, arrays["expression"])
    _check_array(path, arrays, "expression", (length, len(columns)))
    _check_array(path, arrays, "joints", (length, len(rows), 4))
    for name in ("T_world_head", "T_world_body"):
        _check_array(path, arrays, name, (length, 4, 4))
        for frame in range(length):
            if (problem := rigid_problem(arrays[name][frame])) is not None:
                raise UserError(f"{path}: {name} of frame {frame}: {problem}")
    _check_quats(path, arrays["joints"])
    tensors = [arrays["expression"][:, columns], arrays["joints"][:, rows], *(arrays[n] for n in _FIELDS[4:6])]
    if "sway" in arrays:
        _check_array(path, arrays, "sway", (length, NUM_POINTS, 2))
        tensors.append(arrays["sway"])
    return HeadState(*(torch.from_numpy(np.ascontiguousarray(t, np.float32)) for t in tensors)), _fps(path, arrays)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a file of head states (.npz)")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            raise UserError(f"{path}: unpacks to {size / 1e9:.1f} GB; a file of head states has at most 1 GB")
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _FIELDS if name not in file.files]
            if missing:
                raise UserError(f"{path}: lacks {', '.join(missing)}; a file of head states has {', '.join(_FIELDS)}")
            return {name: file[name] for name in (*_FIELDS, "sway") if name in file.files}
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: cannot be read as a file of head states, plain arrays in .npz ({reason}); "
            "transfer_expression.py --save-states makes one of any driver"
        ) from None


def _order(path: Path, field: str, found: np.ndarray, known: Sequence[str]) -> list[int]:
    """Where each known name stands in the file."""
    if found.ndim != 1 or found.dtype.kind != "U":
        raise UserError(f"{path}: {field}: expected [n] of text, got {list(found.shape)} of {found.dtype}")
    names = found.tolist()
    for name in names:
        if name not in known:
            raise UserError(f"{path}: {field}: the avatar has no {name!r}; {hint(name, list(known))}")
    if len(set(names)) < len(names):
        raise UserError(f"{path}: {field}: {next(n for n in names if names.count(n) > 1)!r} stands there twice")
    missing = [name for name in known if name not in names]
    if missing:
        raise UserError(f"{path}: {field}: lacks {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}")
    return [names.index(name) for name in known]


def _length(path: Path, expression: np.ndarray) -> int:
    if expression.ndim != 2 or expression.shape[0] == 0:
        raise UserError(f"{path}: expression: expected [T, E] with at least one frame, got {list(expression.shape)}")
    return expression.shape[0]


def _check_array(path: Path, arrays: dict[str, np.ndarray], field: str, shape: tuple[int, ...]) -> None:
    array = arrays[field]
    if array.shape != shape:
        raise UserError(f"{path}: {field}: expected the shape {list(shape)}, got {list(array.shape)}")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {field}: expected real numbers, got {array.dtype}")
    finite = np.isfinite(array.reshape(shape[0], -1)).all(1)
    if not finite.all():
        raise UserError(f"{path}: {field} of frame {int(np.argmin(finite))}: holds a value that is not a finite number")


def _check_quats(path: Path, joints: np.ndarray) -> None:
    wrong = np.abs(np.linalg.norm(joints, axis=-1) - 1) > 1e-2
    if wrong.any():
        frame = int(np.argmax(wrong.any(-1)))
        raise UserError(f"{path}: joints of frame {frame}: not a unit quaternion; expected wxyz of length 1")


def _fps(path: Path, arrays: dict[str, np.ndarray]) -> float:
    value = arrays["fps"]
    if value.shape not in ((), (1,)) or value.dtype.kind not in "fiu":
        raise UserError(f"{path}: fps: expected one number, got {list(value.shape)} of {value.dtype}")
    fps = float(value.reshape(()))
    if not 0 < fps <= _MAX_FPS:
        raise UserError(f"{path}: fps: expected a number above 0 and at most {_MAX_FPS:g}, got {fps:g}")
    return fps
