"""Writes films: H.264 in ``.mp4``, VP9 in ``.webm``, which alone keeps transparency. Whole or not
at all.

::

    with open_film(path, fps) as film:
        for image in images:
            film.write(image)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from likeness.fitting.images import to_uint8
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path
from likeness.scene.foreign_paths import utf8_path

SUFFIXES = (".mp4", ".webm")
_CODECS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "16", "preset": "medium"}),
    # auto-alt-ref would make frames that the alpha layer does not have
    ".webm": (
        "libvpx-vp9",
        {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        | {"auto-alt-ref": "0"},
    ),
}
_BT709, _LIMITED = 1, 1  # FFmpeg's numbers for colour space, primaries, transfer; range 16 to 235


class Film:
    """Takes images one by one; see ``open_film``."""

    def __init__(self, path: Path, temporary: Path, fps: float, alpha: bool) -> None:
        self._path, self._temporary, self._alpha = path, temporary, alpha
        self._rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
        # the file's name must last: it is opened later, and once more at the end
        self._resources = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, image: Any) -> None:
        """Adds an image [H, W, 3], or straight (not premultiplied) [H, W, 4] to a film with alpha.

        uint8, or in [0, 1] (array or tensor). All have one size; odd ones are padded by a copy of
        the last row or column, because the codecs need even ones.
        """
        image, channels = to_uint8(image), 4 if self._alpha else 3
        shape = self._shape or (*image.shape[:2], channels)
        if image.shape != shape:
            expected = list(self._shape) or f"[H, W, {channels}]"
            raise ValueError(
                f"{self._path}: expected an image of shape {expected}, got {list(image.shape)}"
            )
        self._shape = image.shape
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._open(image.shape[1], image.shape[0])
        self._encode(fill_hidden(image) if self._alpha else image)

    def _open(self, width: int, height: int) -> None:
        import av

        codec, options = _CODECS[self._path.suffix.lower()]
        flags = {"movflags": "faststart"} if codec == "libx264" else {}
        name = self._resources.enter_context(utf8_path(self._temporary))
        self._container = self._resources.enter_context(av.open(name, "w", options=flags))
        self._stream = self._container.add_stream(codec, rate=self._rate, options=dict(options))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuva420p" if self._alpha else "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if self._alpha:
            self._stream.metadata["alpha_mode"] = "1"

    def _encode(self, image: np.ndarray) -> None:
        import av

        layout = "rgba" if self._alpha else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=layout)
        frame = frame.reformat(
            format=self._stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Ends the film. Raises ValueError when it has no image."""
        if self._stream is None:
            raise ValueError(f"{self._path}: no images to write")
        with self._resources:
            self._container.mux(self._stream.encode())

    def abandon(self) -> None:
        """Closes the file without ending the film."""
        with contextlib.suppress(Exception):  # what counts is the error that led here
            self._resources.close()


@contextlib.contextmanager
def open_film(path: Path, fps: float, *, alpha: bool = False) -> Iterator[Film]:
    """A film to write images to; it stands at ``path`` once the block has ended well.

    Raises UserError when the suffix is neither .mp4 nor .webm, and for an .mp4 with alpha.
    """
    path = Path(path)
    check_film(path, alpha)
    with atomic_path(path) as temporary:
        film = Film(path, temporary, fps, alpha)
        try:
            yield film
            film.close()
        except BaseException:
            film.abandon()
            raise


def check_film(path: Path, alpha: bool) -> None:
    """Raises UserError when no film can have that name, before anything is rendered for it."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        got = suffix or "without an ending"
        raise UserError(f"{path}: films are {' or '.join(SUFFIXES)}, not {got}")
    if alpha and suffix == ".mp4":
        raise UserError(
            f"{path}: an .mp4 holds no transparency; write a .webm, or a folder of PNG images"
        )


def fill_hidden(image: np.ndarray) -> np.ndarray:
    """Straight colours [H, W, 4] uint8 whose invisible pixels take the colours near them: codecs
    store colour at half the resolution and in blocks, where hidden colours would stain an edge."""
    import cv2

    alpha = image[..., 3:].astype(np.float32)
    hidden = alpha[..., 0] == 0
    if not hidden.any() or hidden.all():
        return image
    weighted = np.concatenate([image[..., :3] * alpha, alpha], 2)
    total = weighted.sum((0, 1))
    colour = total[:3] / total[3] * np.ones_like(weighted[..., :3])
    for reach in (65, 17, 5):
        near = cv2.blur(weighted, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        mean = near[..., :3] / np.maximum(near[..., 3:], 0.01)
        colour = np.where(near[..., 3:] > 0.01, mean, colour)
    filled = image.copy()
    filled[hidden, :3] = np.clip(colour[hidden] + 0.5, 0, 255).astype(np.uint8)
    return filled
