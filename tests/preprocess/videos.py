"""Small videos for tests, made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from likeness.preprocess.video import import_cv2


def write_video(
    path: Path, images: Iterable[np.ndarray], fps: float = 25.0, codec: str = "mp4v"
) -> Path:
    """Writes RGB images [H, W, 3] uint8."""
    cv2 = import_cv2()
    writer = None
    for image in images:
        if writer is None:
            writer = cv2.VideoWriter(
                str(path), cv2.VideoWriter_fourcc(*codec), fps, image.shape[1::-1]
            )
            assert writer.isOpened()
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def counting_images(count: int, width: int = 96, height: int = 64) -> Iterable[np.ndarray]:
    """Images whose brightness in the middle tells their number (see ``read_number``); the top
    left corner is red."""
    for number in range(count):
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 3, : width // 3] = (255, 0, 0)
        image[height // 2 :, width // 2 :] = 8 + 4 * number
        yield image


def read_number(image: np.ndarray) -> int:
    return round((float(image[-8:, -8:].mean()) - 8) / 4)


def portrait(size: int = 256) -> np.ndarray:
    """A public-domain photograph of a face (NASA; ships with scikit-image), face height about half
    the image."""
    from skimage.data import astronaut

    cv2 = import_cv2()
    return cv2.resize(astronaut()[0:250, 100:350], (size, size), interpolation=cv2.INTER_AREA)


def face_images(count: int, size: int = 256, seed: int = 0) -> Iterable[np.ndarray]:
    """A face that sways."""
    cv2 = import_cv2()
    still = portrait(size)
    phase = np.random.default_rng(seed).uniform(0, 6)
    for number in range(count):
        angle = 6 * np.sin(number / 7 + phase)
        turn = cv2.getRotationMatrix2D((size / 2, size), angle, 1 + 0.03 * np.sin(number / 11))
        yield cv2.warpAffine(
            still, turn, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )


def set_rotation(path: Path, degrees: int) -> None:
    """Writes the display matrix of a phone held sideways into an mp4: turn ``degrees`` clockwise to
    see it upright."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    assert data[start] == 0  # version 0 of the atom
    matrix = [v << 16 for v in (a, b)] + [0] + [v << 16 for v in (c, d)] + [0, 0, 0, 1 << 30]
    data[start + 40 : start + 76] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


def set_durations(path: Path, runs: list[tuple[int, int]]) -> None:
    """Gives an mp4 (whose index comes last) a variable frame rate: (frames, duration of each) in
    time units."""
    data = path.read_bytes()
    start = data.index(b"stts") - 4
    old = struct.unpack(">I", data[start : start + 4])[0]
    table = b"".join(struct.pack(">II", *run) for run in runs)
    new = struct.pack(">I4sII", 16 + len(table), b"stts", 0, len(runs)) + table
    grown = bytearray(data[:start] + new + data[start + old :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = grown.index(name) - 4
        size = struct.unpack(">I", grown[place : place + 4])[0]
        grown[place : place + 4] = struct.pack(">I", size + len(new) - old)
    path.write_bytes(grown)


def time_unit(path: Path) -> int:
    """Time units per second of the video track of an mp4."""
    data = path.read_bytes()
    start = data.index(b"mdhd") + 4
    return struct.unpack(">I", data[start + 12 : start + 16])[0]


def add_focal_metadata(path: Path, millimetres: float) -> None:
    """Appends to an mp4's index what a phone writes: the 35 mm equivalent focal length as QuickTime
    metadata."""

    def atom(name: bytes, payload: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(payload), name) + payload

    key = atom(b"mdta", b"com.apple.quicktime.camera.focal_length.35mm_equivalent")
    keys = atom(b"keys", struct.pack(">II", 0, 1) + key)
    value = atom(b"data", struct.pack(">IIf", 23, 0, millimetres))
    items = atom(b"ilst", struct.pack(">I4s", 8 + len(value), struct.pack(">I", 1)) + value)
    handler = atom(b"hdlr", struct.pack(">II4s", 0, 0, b"mdta") + bytes(13))
    meta = atom(b"meta", handler + keys + items)
    data = bytearray(path.read_bytes())
    place = data.index(b"moov") - 4
    size = struct.unpack(">I", data[place : place + 4])[0]
    assert place + size == len(data)
    data[place : place + 4] = struct.pack(">I", size + len(meta))
    path.write_bytes(data + meta)
