"""Tensors and arrays on disk: safetensors and NumPy's ``.npz``, whole or absent, nothing that is
executed.

What a file is to hold is declared as ``Array``s by name: kinds, shapes and bounds are compared with
what the file's own headers say before anything is allocated, values are checked once they are read.
"""

# safetensors and NumPy's file formats are untyped:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import dataclasses
import errno
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path
from likeness.scene.reading import DAMAGED, check_size, damage

# bytes; safetensors' header must account for each of them, so a file cannot claim more
MAX_TENSORS = 32 << 30
MAX_ARRAYS = 1 << 30  # bytes of an .npz, unpacked
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_REAL, _WHOLE = ("float", "bfloat", "int", "uint"), ("int", "uint")


@dataclasses.dataclass(frozen=True)
class Array:
    """What an array of a file must be.

    shape: sizes; a name stands for a size that is the same wherever it occurs in the file (``"T"``
        frames).
    kind: a dtype's name, or ``real`` (any float or integer), ``whole`` (any integer), ``text``.
    low, high: bounds of every value. Values are finite in any case, unless ``gaps`` lets nan stand
    for what is not known. optional: the whole array may be missing.
    """

    shape: tuple[int | str, ...]
    kind: str = "float32"
    low: float | None = None
    high: float | None = None
    optional: bool = False
    gaps: bool = False

    @classmethod
    def like(cls, tensor: Tensor) -> Array:
        """Any values of a tensor's shape and type."""
        return cls(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    def problem(self, dtype: str, shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
        """What is wrong with an array that is stated to be so, or None. ``sizes`` learns the names
        of sizes."""
        allowed = {
            "real": dtype.startswith(_REAL),
            "whole": dtype.startswith(_WHOLE),
            "text": dtype == "text",
        }
        if not allowed.get(self.kind, dtype == self.kind):
            words = {"real": "real numbers", "whole": "whole numbers"}
            return f"expected {words.get(self.kind, self.kind)}, got {dtype}"
        wanted = [sizes.get(size, size) if isinstance(size, str) else size for size in self.shape]
        if len(shape) != len(wanted) or any(
            w != s for w, s in zip(wanted, shape) if isinstance(w, int)
        ):
            return f"expected the shape [{', '.join(map(str, wanted))}], got {list(shape)}"
        sizes.update({size: got for size, got in zip(self.shape, shape) if isinstance(size, str)})
        return None

    def value_problem(self, values: Tensor | NDArray[Any]) -> str | None:
        """What is wrong with the values, or None."""
        if self.kind == "text":
            points = (
                np.ascontiguousarray(values).reshape(-1).view(np.uint32) if values.size else values
            )
            beyond = (
                values.size
                and ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any()
            )
            return "holds what is no text" if beyond else None
        if isinstance(values, Tensor):  # NumPy knows unsigned integers better, and no bfloat16
            values = (values.float() if values.dtype == torch.bfloat16 else values).detach().numpy()
        if values.dtype.kind == "f":
            values = values[~np.isnan(values)] if self.gaps else values
            if not np.isfinite(values).all():
                return "holds values that are not finite"
        if 0 in values.shape or (self.low is None and self.high is None):
            return None
        low, high = float(values.min()), float(values.max())
        if (self.low is not None and low < self.low) or (
            self.high is not None and high > self.high
        ):
            least = "" if self.low is None else f"from {self.low:g} "
            most = "on" if self.high is None else f"to {self.high:g}"
            return f"expected values {least}{most}, got {low:g} to {high:g}"
        return None


Declared = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a file's header says of an array: its shape, and its dtype's name (``text`` for
    texts)."""

    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class TensorHeader:
    """What a safetensors file says that it holds. arrays: by name. texts: what was saved beside
    them."""

    arrays: dict[str, Stated]
    texts: dict[str, str]


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors by name. Raises UserError when the disk is full or the folder cannot be
    written to."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                temporary,
                metadata,
            )
        except SafetensorError as error:
            # The library wraps what the system said; only its text tells a full disk.
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                if f"os error {number})" in str(error):
                    raise OSError(number, os.strerror(number), str(path)) from error
            raise


def read_header(
    path: Path, what: str, most: int = MAX_TENSORS, remedy: str = DAMAGED
) -> TensorHeader:
    """Names, types and shapes of a safetensors file, without its tensors. Raises UserError when it
    is damaged."""
    from safetensors import safe_open

    check_size(path, what, most)
    with damage(path, what, remedy), safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        arrays = {
            name: Stated(
                tuple(part.get_shape()), _DTYPES.get(str(part.get_dtype()), str(part.get_dtype()))
            )
            for name, part in slices.items()
        }
        return TensorHeader(arrays, file.metadata() or {})


def read_tensors(
    path: Path,
    what: str,
    declared: Declared | None = None,
    sizes: Mapping[str, int] | None = None,
    most: int = MAX_TENSORS,
    remedy: str = DAMAGED,
) -> dict[str, Tensor]:
    """The tensors of a safetensors file that are declared (all of them where nothing is), checked.

    sizes: what names in the declared shapes stand for, as far as that is known. Raises UserError
        that names the file
    and the tensor: missing, of another type or shape, out of bounds, not finite.
    """
    from safetensors import safe_open

    header = read_header(path, what, most, remedy).arrays
    if declared is None:
        declared = {name: Array(stated.shape, stated.dtype) for name, stated in header.items()}
    names = _check_header(path, header, declared, sizes, remedy)
    with damage(path, what, remedy), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in names}
    _check_values(path, tensors, declared, remedy)
    return tensors


def read_arrays(
    path: Path,
    what: str,
    declared: Declared,
    sizes: Mapping[str, int] | None = None,
    most: int = MAX_ARRAYS,
    remedy: str = DAMAGED,
) -> dict[str, NDArray[Any]]:
    """The declared arrays of an ``.npz`` file, checked; texts have dtype U. Others in it are not
    read.

    Raises UserError as ``read_tensors`` does; nothing is unpacked that its header does not declare
    to fit.
    """
    check_size(path, what, most)
    with damage(path, what, remedy), zipfile.ZipFile(path) as archive:
        entries = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename in {f"{name}.npy" for name in declared}
        }
        stated = sum(info.file_size for info in entries.values())
        if stated > most:
            raise UserError(
                f"{path}: unpacks to {stated / 1e9:.1f} GB; the {what} has at most "
                f"{most / 1e9:.3g} GB"
            )
        header = {name: _npy_header(archive, name, info) for name, info in entries.items()}
        names = _check_header(path, header, declared, sizes, remedy)
        arrays = {}
        for name in names:
            with archive.open(entries[name]) as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
                arrays[name] = values.astype(values.dtype.newbyteorder("="), copy=False)
                if file.read(1):
                    raise ValueError(f"{name} is longer than its header says")
    _check_values(path, arrays, declared, remedy)
    return arrays


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _npy_header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Stated:
    """Kind and shape that an ``.npy`` in an archive states. Raises ValueError where they do not fit
    its size."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            raise ValueError(f"{name} is of an unknown version {version}")
        shape, _, dtype = read[version](file)
        if dtype.hasobject:
            return Stated(tuple(shape), "Python objects")
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if any(extent < 0 for extent in shape) or file.tell() + size != info.file_size:
            raise ValueError(
                f"{name} has {info.file_size} bytes, which its header does not explain"
            )
    return Stated(
        tuple(shape),
        "text" if dtype.kind == "U" else dtype.name if dtype.kind in "fiub" else str(dtype),
    )


def _check_header(
    path: Path,
    header: Mapping[str, Stated],
    declared: Declared,
    sizes: Mapping[str, int] | None,
    remedy: str,
) -> list[str]:
    """The declared names that are there, once what the header says of them fits."""
    known = dict(sizes or {})
    names: list[str] = []
    missing = [
        name for name, array in declared.items() if not array.optional and name not in header
    ]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{path}: {missing[0]}{others} missing; {remedy}")
    for name, array in declared.items():
        if name in header:
            if problem := array.problem(header[name].dtype, header[name].shape, known):
                raise UserError(f"{path}: {name}: {problem}; {remedy}")
            names.append(name)
    return names


def _check_values(path: Path, arrays: Mapping[str, Any], declared: Declared, remedy: str) -> None:
    for name, values in arrays.items():
        if problem := declared[name].value_problem(values):
            raise UserError(f"{path}: {name}: {problem}; {remedy}")
