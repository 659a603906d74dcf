"""What stands behind an avatar: a colour, an image, or nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageColor
from torch import Tensor

from likeness.renderers.output import RenderOutput
from likeness.scene.errors import UserError, hint
from likeness.scene.image_files import load_image

TRANSPARENT = "transparent"
COLOURS = {**ImageColor.colormap, "green": "#00b140", "blue": "#0047bb"}
"""sRGB by the names of CSS; green and blue are those of studio screens."""
_COMMON = ("white", "black", "grey", "red", "green", "blue", "yellow")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Background:
    """A background given as text: ``transparent``, a name in COLOURS, ``#rrggbb``, or an image's
    path."""

    def __init__(self, text: str) -> None:
        """Raises UserError for what is none of them, and for an image that cannot be read."""
        self.transparent = text == TRANSPARENT
        self._colour: Tensor | None = None
        self._image: np.ndarray | None = None
        hexadecimal = COLOURS.get(text.lower(), text)
        if self.transparent:
            return
        if re.fullmatch(r"#[0-9a-fA-F]{6}", hexadecimal):
            self._colour = torch.tensor([int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        elif Path(text).suffix.lower() in _PICTURES:
            self._image = _read(Path(text))
        else:
            known = hint(text, [TRANSPARENT, *_COMMON, *COLOURS])
            raise UserError(
                f"background {text}: expected #rrggbb, {TRANSPARENT}, a name or an image "
                f"({', '.join(_PICTURES[:3])}, ...); {known}"
            )

    def tensor(self, width: int, height: int) -> Tensor:
        """The colour [3], or the image [H, W, 3] scaled to cover the frame and cut at its middle;
        sRGB in [0, 1]."""
        if self._colour is not None:
            return self._colour
        if self._image is None:
            raise ValueError("Background.tensor: a transparent background has no colour")
        return torch.from_numpy(cover(self._image, width, height)).float() / 255

    def under(self, output: RenderOutput) -> NDArray[np.uint8]:
        """A rendered image as uint8: [H, W, 3] over the background, or straight RGBA [H, W, 4] if
        transparent."""
        if self.transparent:
            return straight(output)
        height, width = output.rgb.shape[:2]
        image = output.over(self.tensor(width, height).to(output.rgb)).clamp(0, 1)
        return (image * 255).round().to(torch.uint8).cpu().numpy()


def straight(output: RenderOutput) -> NDArray[np.uint8]:
    """Straight (not premultiplied) RGBA [H, W, 4] uint8 of a rendered image; black where nothing
    is."""
    alpha = output.alpha.clamp(0, 1)
    rgb = torch.where(alpha > 0.5 / 255, output.rgb / alpha.clamp_min(0.5 / 255), 0.0).clamp(0, 1)
    return (torch.cat([rgb, alpha], -1) * 255).round().to(torch.uint8).cpu().numpy()


def cover(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image [h, w, 3] scaled so that it covers width x height, and cut at its middle."""
    import cv2

    scale = max(width / image.shape[1], height / image.shape[0])
    columns = max(width, round(image.shape[1] * scale))
    rows = max(height, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, (columns, rows), interpolation=method)
    left, top = (columns - width) // 2, (rows - height) // 2
    return scaled[top : top + height, left : left + width]


def _read(path: Path) -> np.ndarray:
    import cv2

    if not path.is_file():
        raise UserError(
            f"background {path}: not found; expected an image, #rrggbb, {TRANSPARENT} or a name"
        )
    image = load_image(path, cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"background {path}: cannot be read as an image; give a PNG or JPEG")
    return np.ascontiguousarray(image[..., ::-1])
