"""Reading a capture's images."""

# torch.from_numpy is untyped:
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.errors import UserError
from likeness.scene.image_files import load_image

_MIN_WEIGHT = 0.255  # of a pixel's colour, where opaque ones have 255


def load_rgba(frame: TrackedFrame) -> NDArray[Any]:
    """Image and matte of a frame as uint8 [H, W, 4] (RGB not premultiplied). Raises UserError
    when damaged."""
    import cv2

    size = (frame.camera.height, frame.camera.width)
    image = _read(frame.image_path, cv2.IMREAD_COLOR, size)
    matte = _read(frame.matte_path, cv2.IMREAD_GRAYSCALE, size)
    for path, array in ((frame.image_path, image), (frame.matte_path, matte)):
        if array.shape[:2] != size:
            height, width = array.shape[:2]
            raise UserError(
                f"{path}: {width}x{height} pixels, but the capture says {size[1]}x{size[0]}; "
                "preprocess the video again"
            )
    rgba = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)
    rgba[..., 3] = matte
    return rgba


def composite(rgba: NDArray[Any], background: Tensor | float = 1.0) -> Tensor:
    """uint8 [H, W, 4] over a grey level, a colour [3] or an image [H, W, 3]: float32 [H, W, 3] in
    [0, 1]."""
    pixels = torch.from_numpy(rgba).float() / 255
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + background * (1 - alpha)


def _read(path: Path, flags: int, size: tuple[int, int]) -> NDArray[Any]:
    array = load_image(path, flags, 4 * size[0] * size[1])
    if array is None:
        problem = "damaged" if path.is_file() else "missing"
        raise UserError(
            f"{path}: {problem}, expected an image of the capture; preprocess the video again"
        )
    return array


class FrameStore:
    """Frames of a capture as uint8 on a device, 1 MiB each at 512², at full and, on request, at
    reduced resolution."""

    def __init__(
        self,
        capture: Capture,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        held_at: int = 1,
    ) -> None:
        """Reads the frames ``indices`` (positions in ``capture.frames``). ``held_at``: holds 1 /
        held_at of their resolution alone, which all divisors of ``get`` then refer to."""
        from concurrent.futures import ThreadPoolExecutor

        size = capture.cameras.height // held_at, capture.cameras.width // held_at
        images = torch.empty(len(indices), *size, 4, dtype=torch.uint8)

        def read(row: int) -> None:
            image = torch.from_numpy(load_rgba(capture.frames[indices[row]]))
            images[row] = image if held_at == 1 else _reduce(image, held_at)

        with ThreadPoolExecutor(max(2, torch.get_num_threads())) as pool:
            list(pool.map(read, range(len(indices))))
        self._levels: dict[int, Tensor] = {1: images.to(device)}
        self._rows = {index: row for row, index in enumerate(indices)}

    def get(self, index: int | Sequence[int], divisor: int = 1) -> tuple[Tensor, Tensor]:
        """Colour [*b, H, W, 3] (straight, not premultiplied) and matte [*b, H, W, 1] of a frame, or
        of several as a batch [B], as float in [0, 1].

        ``divisor``: 1, 2, 4 ... reduces the resolution by averaging.
        """
        if divisor not in self._levels:
            self._levels[divisor] = torch.stack([_reduce(f, divisor) for f in self._levels[1]])
        frames = self._levels[divisor]
        if isinstance(index, int):
            rgba = frames[self._rows[index]]
        else:
            rgba = torch.stack([frames[self._rows[one]] for one in index])
        rgba = rgba.float() / 255
        return rgba[..., :3], rgba[..., 3:]

    def rgba(self, indices: Sequence[int]) -> Tensor:
        """Colour and matte of frames as they are held, uint8 [B, H, W, 4]."""
        frames = self._levels[1]
        return torch.stack([frames[self._rows[index]] for index in indices])


def _reduce(frame: Tensor, divisor: int) -> Tensor:
    """A frame [H, W, 4] uint8 at 1 / divisor of its resolution, what is left over at the end cut
    off.

    Colour is averaged with the matte's weights (and a little everywhere), so that no background
    bleeds in.
    """
    pool, rgba = torch.nn.functional.avg_pool2d, frame.float().permute(2, 0, 1)[None]
    alpha = rgba[:, 3:]
    weight = alpha + _MIN_WEIGHT
    colour = pool(rgba[:, :3] * weight, divisor) / pool(weight, divisor)
    out = torch.cat([colour, pool(alpha, divisor)], 1)[0].permute(1, 2, 0)
    return out.round().clamp(0, 255).to(torch.uint8)
