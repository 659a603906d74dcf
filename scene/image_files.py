"""Pictures on disk by OpenCV, which is given their bytes and never their names: any path will do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scene.files import write_bytes

if TYPE_CHECKING:
    import numpy as np


def load_image(path: Path, flags: int) -> np.ndarray | None:
    """A picture as ``cv2.imread(path, flags)`` gives it; None where the file is missing, empty or no picture."""
    import cv2
    import numpy as np

    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        return cv2.imdecode(data, flags) if len(data) else None
    except (OSError, cv2.error):  # of pictures that state more pixels than OpenCV opens
        return None


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes a picture (channels in OpenCV's order) in the format of its ending, whole or not at all.

    Raises UserError when the disk is full or the folder cannot be written to.
    """
    import cv2

    write_bytes(path, cv2.imencode(Path(path).suffix, image)[1].tobytes())
