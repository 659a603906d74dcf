"""Tensors in fewer bits: half precision, whole numbers with a scale and an offset per channel,
narrowed integers.

A tensor [N, *c] in ``int8`` or ``int16`` has a scale and an offset [*c] over its first dimension,
stored beside it under its name with ``#scale`` and ``#offset``: value = offset + scale * number.
Rounding errs by at most half a scale. ``float16`` errs by at most 2⁻¹¹ of the value (and 2⁻²⁵ near
0). ``narrowed`` keeps integers exactly, in the smallest type that holds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import msgspec
import torch
from torch import Tensor

from likeness.scene.tensor_files import Array

ENCODINGS = ("float16", "int16", "int8", "narrowed")
_LARGEST = {"int8": 127, "int16": 32767}
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, *_INTEGERS)
}
_SCALE, _OFFSET = "#scale", "#offset"


class Storage(msgspec.Struct):
    """How a tensor is stored that is not stored as it stands: ``pack`` says so, a manifest keeps
    it."""

    encoding: Literal["float16", "int16", "int8", "narrowed"]
    dtype: Literal["float32", "float64", "int8", "int16", "int32", "int64"]


def pack(
    tensors: Mapping[str, Tensor], encodings: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, Storage]]:
    """Tensors as they are stored, and how each is that is not stored as it stands.

    Raises ValueError for an unknown name or encoding, a type that it cannot hold, or values that
    are not finite.
    """
    unknown = set(encodings) - set(tensors)
    if unknown:
        raise ValueError(f"no tensors named {', '.join(sorted(unknown))}")
    stored, storage = {}, {}
    for name, tensor in tensors.items():
        if name not in encodings:
            stored[name] = tensor
            continue
        stored |= {
            name + suffix: part for suffix, part in encode(tensor, encodings[name], name).items()
        }
        dtype = str(tensor.dtype).removeprefix("torch.")
        storage[name] = msgspec.convert({"encoding": encodings[name], "dtype": dtype}, Storage)
    return stored, storage


def stored_as(declared: Mapping[str, Array], storage: Mapping[str, Storage]) -> dict[str, Array]:
    """What a file must hold for ``unpack`` to give what is declared. Raises ValueError for what
    ``pack`` did not make: unknown names, or an encoding that cannot hold a tensor."""
    arrays = dict(declared)
    for name, entry in storage.items():
        if name not in declared:
            raise ValueError(f"storage: {name} is no tensor of it")
        array = arrays[name]
        floating = array.kind.startswith(("float", "bfloat"))
        if entry.dtype != array.kind or floating == (entry.encoding == "narrowed"):
            raise ValueError(
                f"storage: {name}: {array.kind} cannot be stored as {entry.encoding} of "
                f"{entry.dtype}"
            )
        arrays[name] = dataclasses.replace(
            array, kind="whole" if entry.encoding == "narrowed" else entry.encoding
        )
        if entry.encoding in _LARGEST:
            arrays |= {name + suffix: Array(array.shape[1:]) for suffix in (_SCALE, _OFFSET)}
    return arrays


def unpack(stored: Mapping[str, Tensor], storage: Mapping[str, Storage]) -> dict[str, Tensor]:
    """The tensors that ``pack`` was given, but for rounding; ``stored`` as ``stored_as`` says.

    Raises ValueError where scales and offsets lead beyond all numbers.
    """
    tensors = dict(stored)
    for name, entry in storage.items():
        suffixes = ("", _SCALE, _OFFSET) if entry.encoding in _LARGEST else ("",)
        value = decode({suffix: tensors.pop(name + suffix) for suffix in suffixes}, entry.encoding)
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name}: holds values that are not finite")
        tensors[name] = value.to(_DTYPES[entry.dtype])
    return tensors


def encode(tensor: Tensor, encoding: str, name: str = "tensor") -> dict[str, Tensor]:
    """The parts of a stored tensor by the suffix of their names."""
    if encoding not in ENCODINGS:
        raise ValueError(
            f"{name}: unknown encoding {encoding!r}; expected one of {', '.join(ENCODINGS)}"
        )
    if tensor.is_floating_point() == (encoding == "narrowed"):
        raise ValueError(f"{name}: {tensor.dtype} cannot be stored as {encoding}")
    if encoding == "narrowed":
        return {"": _narrowed(tensor)}
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: holds values that are not finite")
    if encoding == "float16":
        half = tensor.half()
        if not torch.isfinite(half).all():
            raise ValueError(f"{name}: holds values beyond those of half precision")
        return {"": half}
    scale, offset = ranges(tensor, _LARGEST[encoding])
    numbers = ((tensor.double() - offset.double()) / scale.double()).round()
    numbers = numbers.clamp(-_LARGEST[encoding], _LARGEST[encoding]).to(getattr(torch, encoding))
    return {"": numbers, _SCALE: scale, _OFFSET: offset}


def decode(parts: Mapping[str, Tensor], encoding: str) -> Tensor:
    """The tensor of its parts: float32, or int64 if narrowed."""
    if encoding == "narrowed":
        return parts[""].long()
    if encoding == "float16":
        return parts[""].float()
    return (parts[_OFFSET].double() + parts[_SCALE].double() * parts[""].double()).float()


def ranges(tensor: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Scales and offsets [*c] in float32 that map the values [N, *c] to whole numbers up to
    ``largest``."""
    low, high = tensor.amin(0).double(), tensor.amax(0).double()
    offset = ((low + high) / 2).float()
    half = torch.maximum(high - offset.double(), offset.double() - low)
    # A channel that is constant needs no scale; 1 keeps the division defined. The factor covers
    # float32's rounding.
    scale = torch.where(half > 0, half / largest * (1 + 1e-6), torch.ones_like(half))
    return scale.float().clamp_min(torch.finfo(torch.float32).tiny), offset


def _narrowed(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bool or tensor.numel() == 0:
        return tensor
    low, high = int(tensor.min()), int(tensor.max())
    return tensor.to(
        next(t for t in _INTEGERS if torch.iinfo(t).min <= low and high <= torch.iinfo(t).max)
    )
