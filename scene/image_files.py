"""Pictures on disk by OpenCV, which is given their bytes and never their names: any path will do."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from scene.files import write_bytes

if TYPE_CHECKING:
    import numpy as np


def load_image(path: Path, flags: int, max_pixels: int = 1 << 30) -> np.ndarray | None:
    """A picture as ``cv2.imread(path, flags)`` gives it; None where the file is missing, empty or no picture, or a PNG
    that states more pixels than ``max_pixels``."""
    import cv2
    import numpy as np

    try:
        content = Path(path).read_bytes()
        if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
            width, height = struct.unpack_from(">II", content, 16)
            if width * height > max_pixels:
                return None
        data = np.frombuffer(content, np.uint8)
        return cv2.imdecode(data, flags) if len(data) else None
    except (OSError, cv2.error):  # of pictures that state more pixels than OpenCV opens
        return None


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes a picture (channels in OpenCV's order) in the format of its ending, whole or not at all.

    Raises UserError when the disk is full or the folder cannot be written to.
    """
    import cv2

    write_bytes(path, cv2.imencode(Path(path).suffix, image)[1].tobytes())
