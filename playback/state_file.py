"""States on disk: one npz file that any program can write.

Arrays, T frames, E expressions, J joints: ``expression`` [T, E] with ``expression_names`` [E], ``joints`` [T, J, 4]
(quaternions wxyz) with ``joint_names`` [J], ``T_world_head`` [T, 4, 4], ``T_world_body`` [T, 4, 4], ``fps`` [].
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import torch

from scene.errors import UserError
from scene.files import atomic_path
from scene.head_state import HeadState

_TENSORS = tuple(field.name for field in dataclasses.fields(HeadState))
NAMES = (*_TENSORS, "expression_names", "joint_names", "fps")


def save_states(
    path: Path, states: HeadState, fps: float, expression_names: tuple[str, ...], joint_names: tuple[str, ...]
) -> None:
    """Writes states [T], whole or not at all."""
    arrays = {name: getattr(states, name).cpu().numpy().astype(np.float32) for name in _TENSORS}
    arrays |= {"expression_names": np.array(expression_names, dtype=str), "joint_names": np.array(joint_names, str)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, fps=np.float64(fps))


def load_states(
    path: Path, expression_names: tuple[str, ...], joint_names: tuple[str, ...]
) -> tuple[HeadState, float]:
    """States [T] with their columns in the order of these names, and the frames per second.

    Raises UserError when the file is damaged, holds no such states, or misses one of the names.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NAMES if name not in file.files]
            if missing:
                raise UserError(f"{path}: no states in it ({', '.join(missing)} missing); expected {', '.join(NAMES)}")
            arrays = {name: file[name] for name in NAMES}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a file of states (.npz)") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as states ({error}); write it anew") from None
    columns = [
        _columns(path, [str(name) for name in arrays[key]], wanted, key)
        for key, wanted in (("expression_names", expression_names), ("joint_names", joint_names))
    ]
    for name in _TENSORS:
        if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name}: expected finite numbers throughout; write the file anew")
    tensors = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in _TENSORS}
    try:
        tensors["expression"] = tensors["expression"][:, columns[0]]
        tensors["joints"] = tensors["joints"][:, columns[1]]
        states, fps = HeadState(**tensors), float(arrays["fps"])
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}; write the file anew") from None
    if not states.batch_shape or len(states) == 0:
        raise UserError(f"{path}: holds no frames")
    if not 0 < fps < float("inf"):
        raise UserError(f"{path}: fps: expected frames per second above 0, got {fps}")
    return states, fps


def _columns(path: Path, present: list[str], wanted: tuple[str, ...], key: str) -> list[int]:
    """Where the wanted names stand among those present."""
    missing = [name for name in wanted if name not in present]
    if missing:
        raise UserError(f"{path}: {key}: {', '.join(missing[:5])} missing, which the avatar needs")
    return [present.index(name) for name in wanted]
