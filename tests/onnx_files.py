"""Small ONNX files, written byte by byte (protobuf), so that tests need no package for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, array.astype("<f4").tobytes())


def _ints(name: str, values: tuple[int, ...]) -> bytes:
    return _field(1, name) + b"".join(_field(8, value) for value in values) + _field(20, 7)


def _node(kind: str, inputs: list[str], output: str, attributes: tuple[bytes, ...] = ()) -> bytes:
    parts = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)
    return parts + b"".join(_field(5, attribute) for attribute in attributes)


def write_embedding(path: Path, side: int = 112, seed: int = 0) -> np.ndarray:
    """A network that embeds [1, 3, side, side] by one convolution with strides as large as its
    kernel, flattened.

    Returns the kernel [8, 3, 28, 28].
    """
    kernel = np.random.default_rng(seed).normal(0, 0.1, (8, 3, 28, 28)).astype(np.float32)
    convolution = _node(
        "Conv", ["x", "w"], "c", (_ints("kernel_shape", (28, 28)), _ints("strides", (28, 28)))
    )
    flatten = _node("Flatten", ["c"], "y")
    count = 8 * (side // 28) ** 2
    graph = (
        _field(1, convolution)
        + _field(1, flatten)
        + _field(2, "g")
        + _field(5, _tensor("w", kernel))
    )
    graph += _field(11, _value("x", (1, 3, side, side))) + _field(12, _value("y", (1, count)))
    opset = _field(1, "") + _field(2, 11)
    path.write_bytes(_field(1, 6) + _field(7, graph) + _field(8, opset))
    return kernel
