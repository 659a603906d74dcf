"""Reading a capture's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scene.capture import TrackedFrame
from scene.errors import UserError


def load_rgba(frame: TrackedFrame) -> np.ndarray:
    """Picture and matte of a frame as uint8 [H, W, 4] (RGB not premultiplied). Raises UserError when damaged."""
    import cv2

    image = _read(frame.image_path, cv2.IMREAD_COLOR)
    matte = _read(frame.matte_path, cv2.IMREAD_GRAYSCALE)
    size = (frame.camera.height, frame.camera.width)
    for path, array in ((frame.image_path, image), (frame.matte_path, matte)):
        if array.shape[:2] != size:
            height, width = array.shape[:2]
            raise UserError(
                f"{path}: {width}x{height} pixels, but the capture says {size[1]}x{size[0]}; preprocess the video again"
            )
    return np.dstack([image[..., ::-1], matte])


def composite(rgba: np.ndarray, background: Tensor | float = 1.0) -> Tensor:
    """uint8 [H, W, 4] over a grey level, a colour [3] or a picture [H, W, 3]: float32 [H, W, 3] in [0, 1]."""
    pixels = torch.from_numpy(rgba).float() / 255
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + background * (1 - alpha)


def _read(path: Path, flags: int) -> np.ndarray:
    import cv2

    array = cv2.imread(str(path), flags)
    if array is None:
        problem = "damaged" if path.is_file() else "missing"
        raise UserError(f"{path}: {problem}, expected a picture of the capture; preprocess the video again")
    return array
