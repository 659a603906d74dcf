"""The little that is read from mp4/mov files beside the images: whether the index is there, and
the focal length."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = {b"moov", b"trak", b"udta"}
_FOCAL_KEY = b"focal_length.35mm_equivalent"
_MAX_META = 1 << 20


def has_index(path: Path) -> bool | None:
    """Whether an mp4/mov file holds its index (moov); None when the file is of another kind."""
    with Path(path).open("rb") as file:
        file.seek(0, 2)
        end = file.tell()
        names = [name for name, _, _ in _atoms(file, 0, end)]
    if not names or names[0] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return None
    return b"moov" in names


def focal_length_35mm(path: Path) -> float | None:
    """The 35 mm equivalent focal length in millimetres that phones write as QuickTime metadata, or
    None.

    The key is ``com.apple.quicktime.camera.focal_length.35mm_equivalent`` (others end alike), in a
    ``meta`` atom of the movie or of a track. Format: QuickTime File Format Specification, "Metadata
    atoms and types".
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            for start, end in _find_meta(file, 0, file.tell()):
                focal = _focal_in_meta(file, start, end)
                if focal is not None and 5 <= focal <= 1000:
                    return focal
    except (OSError, struct.error, ValueError):
        return None
    return None


def _atoms(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of payload, end) of the atoms that lie in a range of the file."""
    position = start
    while position + 8 <= end:
        file.seek(position)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1 and position + 16 <= end:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        elif size == 0:
            size = end - position
        if size < header:
            return
        yield name, position + header, min(position + size, end)
        position += size


def _find_meta(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    for name, low, high in list(_atoms(file, start, end)):
        if name == b"meta":
            yield low, high
        elif name in _CONTAINERS:
            yield from _find_meta(file, low, high)


def _focal_in_meta(file: BinaryIO, start: int, end: int) -> float | None:
    if end - start > _MAX_META:
        return None
    file.seek(start)
    # ISO's meta is a "full box" (4 bytes of version and flags come first), QuickTime's is not.
    if file.read(8)[4:] not in (b"hdlr", b"keys", b"ilst"):
        start += 4
    atoms = {name: (low, high) for name, low, high in _atoms(file, start, end)}
    if b"keys" not in atoms or b"ilst" not in atoms:
        return None
    low, high = atoms[b"keys"]
    keys = [_read(file, a, b) for _, a, b in _atoms(file, low + 8, high)]
    for name, low, high in list(_atoms(file, *atoms[b"ilst"])):
        number = struct.unpack(">I", name)[0]
        if 1 <= number <= len(keys) and keys[number - 1].endswith(_FOCAL_KEY):
            for inner, a, b in _atoms(file, low, high):
                if inner == b"data":
                    return _number(_read(file, a, b))
    return None


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(min(end - start, _MAX_META))


def _number(data: bytes) -> float | None:
    """The number in a metadata value: 4 bytes of type, 4 of locale, then the value."""
    kind, value = struct.unpack(">I", data[:4])[0], data[8:]
    if kind == 1:
        return float(value.decode("utf-8"))
    if kind in (23, 24):
        return float(struct.unpack(">f" if kind == 23 else ">d", value)[0])
    if kind in (21, 65, 66, 67, 74):
        return float(int.from_bytes(value, "big", signed=True))
    if kind in (22, 75, 76, 77, 78):
        return float(int.from_bytes(value, "big", signed=False))
    return None
