"""Arrays as rows of small integers in one binary file: what the web page reads.

An array [rows, columns] becomes integers q with value = bias[row] + scale[row] · sign(q) |q|^power.
Power 1 spreads the steps evenly over a row's range. Power 2 makes them finest at 0 (bias 0): modes
have many small and few large values.
"""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
from torch import Tensor

_TYPES = {
    "int8": np.int8,
    "int16": np.int16,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "float32": np.float32,
}
_ALIGNMENT = 4  # bytes; typed arrays of a browser start at multiples of their element's size


class ArrayFile:
    """Collects arrays; ``index`` describes them for JSON, ``data`` is the file's content.

    index[name]: type, shape [rows, columns], offset in bytes, and where quantised: power, scale
    [rows], bias [rows].
    """

    def __init__(self) -> None:
        self.index: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def exact(self, name: str, values: Tensor, kind: str = "float32") -> None:
        """Adds an array [rows, columns] as it is. Raises ValueError when integers do not fit into
        ``kind``."""
        array = values.detach().cpu().numpy()
        if (
            kind != "float32"
            and array.size
            and not (0 <= array.min() and array.max() <= np.iinfo(_TYPES[kind]).max)
        ):
            raise ValueError(
                f"{name}: expected values that fit into {kind}, got {array.min()} to {array.max()}"
            )
        self._add(name, array.astype(_TYPES[kind]), kind, {})

    def even(self, name: str, values: Tensor) -> None:
        """Adds an array [rows, columns] in 16 bits, evenly over each row's range."""
        array = _finite(name, values)
        low, high = array.min(1, initial=np.inf), array.max(1, initial=-np.inf)
        low, high = np.where(low > high, 0, low), np.where(low > high, 0, high)
        scale, bias = (high - low) / 2 / 32767, (high + low) / 2
        steps = np.rint((array - bias[:, None]) / np.maximum(scale, 1e-30)[:, None])
        facts = {"power": 1, "scale": scale.tolist(), "bias": bias.tolist()}
        self._add(name, steps.clip(-32767, 32767).astype(np.int16), "int16", facts)

    def squared(self, name: str, values: Tensor) -> None:
        """Adds an array [rows, columns] in 8 bits, finest at 0."""
        array = _finite(name, values)
        scale = np.abs(array).max(1, initial=0) / 127**2
        steps = np.rint(np.sign(array) * np.sqrt(np.abs(array) / np.maximum(scale, 1e-30)[:, None]))
        facts = {"power": 2, "scale": scale.tolist(), "bias": [0.0] * len(array)}
        self._add(name, steps.clip(-127, 127).astype(np.int8), "int8", facts)

    def data(self) -> bytes:
        """The file's content, gzipped (the same bytes for the same arrays)."""
        return gzip.compress(b"".join(self._parts), 9, mtime=0)

    @property
    def size(self) -> int:
        """Bytes of the content before compression."""
        return self._size

    def _add(self, name: str, array: np.ndarray, kind: str, facts: dict[str, Any]) -> None:
        if array.ndim != 2:
            raise ValueError(
                f"{name}: expected an array [rows, columns], got the shape {array.shape}"
            )
        if name in self.index:
            raise ValueError(f"{name}: added twice")
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        content += bytes(-len(content) % _ALIGNMENT)
        self.index[name] = {"type": kind, "shape": list(array.shape), "offset": self._size, **facts}
        self._parts.append(content)
        self._size += len(content)


def decode(content: bytes, entry: dict[str, Any]) -> np.ndarray:
    """One array [rows, columns] of the unpacked content, in float64: what the page's own reader
    computes."""
    count = entry["shape"][0] * entry["shape"][1]
    kind = np.dtype(_TYPES[entry["type"]]).newbyteorder("<")
    raw = np.frombuffer(content, kind, count, entry["offset"]).reshape(entry["shape"])
    if "power" not in entry:
        return raw.astype(np.float64)
    steps = raw.astype(np.float64)
    steps = np.sign(steps) * np.abs(steps) ** entry["power"]
    return np.array(entry["bias"])[:, None] + np.array(entry["scale"])[:, None] * steps


def _finite(name: str, values: Tensor) -> np.ndarray:
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers")
    return array
