"""Images on disk by OpenCV, which is given their bytes and never their names: any path will do."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.scene.files import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PNG = b"\x89PNG\r\n\x1a\n"


def load_image(path: Path, flags: int, max_pixels: int = 1 << 30) -> NDArray[Any] | None:
    """An image as ``cv2.imread(path, flags)`` gives it; None where the file is missing, empty or no
    image, or a PNG that is not whole or states more pixels than ``max_pixels``: OpenCV takes memory
    for whatever it states."""
    import cv2
    import numpy as np

    try:
        data = Path(path).read_bytes()
        if data.startswith(_PNG) and not (_is_whole(data) and _pixels(data) <= max_pixels):
            return None
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except (OSError, cv2.error):  # of images that state more pixels than OpenCV opens
        return None


def is_whole_png(path: Path) -> bool:
    """Whether a file is a PNG to its end, by the checksums of its parts: 0.3 ms for an image of
    512²."""
    try:
        return _is_whole(path.read_bytes())
    except OSError:
        return False


def _is_whole(data: bytes) -> bool:
    place, name = len(_PNG), b""
    while data.startswith(_PNG) and name != b"IEND" and place + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + size
        checksum = zlib.crc32(memoryview(data)[place + 4 : end - 4])
        if end > len(data) or checksum != int.from_bytes(data[end - 4 : end], "big"):
            return False
        place = end
    return name == b"IEND"


def _pixels(data: bytes) -> int:
    """Of a PNG that is whole, by its first part."""
    width, height = struct.unpack_from(">II", data, len(_PNG) + 8)
    return width * height


def save_image(path: Path, image: NDArray[Any]) -> None:
    """Writes an image (channels in OpenCV's order) in the format of its ending, whole or not at
    all.

    Raises UserError when the disk is full or the folder cannot be written to.
    """
    import cv2

    write_bytes(path, cv2.imencode(Path(path).suffix, image)[1].tobytes())


def save_rgb(path: Path, image: NDArray[Any]) -> None:
    """``save_image`` of RGB or RGBA, uint8 [H, W, 3 or 4]; makes the folder where there is none."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]]))
