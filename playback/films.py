"""Writes films: H.264 in ``.mp4``, VP9 in ``.webm``, which alone keeps transparency. Whole or not
at all.

::

    with open_film(path, fps) as film:
        for picture in pictures:
            film.write(picture)

The codecs come with the package ``av``. Where they are missing an ``.mp4`` is written by OpenCV,
with a warning, and a ``.webm`` is refused.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from likeness.fitting.images import to_uint8
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path
from likeness.scene.foreign_paths import utf8_path

_log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".webm")
_BT709 = 1  # of FFmpeg's enumerations of colour spaces, primaries and transfer curves
_LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG: 16 to 235
_X264 = {"crf": "16", "preset": "medium"}
# auto-alt-ref would make frames that the alpha layer does not have.
_VP9 = {
    "crf": "20",
    "b": "0",
    "deadline": "good",
    "cpu-used": "4",
    "row-mt": "1",
    "auto-alt-ref": "0",
}


# Of the codecs that OpenCV's wheels can write (no H.264 among them) browsers play VP9; MPEG-4 part
# 2 comes last.
_OPENCV_CODECS = ("vp09", "mp4v")


class _Encoder(Protocol):
    def write(self, picture: np.ndarray) -> None: ...

    def close(self) -> None: ...


class _Unavailable(Exception):
    """A codec, or the package with it, is not there."""


class Film:
    """Takes pictures one by one; see ``open_film``."""

    def __init__(self, shown: Path, temporary: Path, fps: float, alpha: bool) -> None:
        self._shown, self._temporary, self._fps, self._alpha = shown, temporary, fps, alpha
        self._encoder: _Encoder | None = None
        self._shape: tuple[int, ...] = ()

    def write(self, picture) -> None:
        """Adds a picture [H, W, 3], or straight (not premultiplied) [H, W, 4] to a film with alpha.

        uint8, or in [0, 1] (array or tensor). All have one size; odd ones are padded by a copy of
        the last row or column, for the codecs need even ones.
        """
        picture = to_uint8(picture)
        channels = 4 if self._alpha else 3
        if (
            picture.ndim != 3
            or picture.shape[2] != channels
            or (self._encoder and picture.shape != self._shape)
        ):
            wanted = list(self._shape) if self._encoder else f"[H, W, {channels}]"
            raise ValueError(
                f"{self._shown}: expected a picture of shape {wanted}, got {list(picture.shape)}"
            )
        self._shape = picture.shape
        picture = np.pad(
            picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge"
        )
        if self._alpha:
            picture = fill_hidden(picture)
        if self._encoder is None:
            self._encoder = self._open(picture.shape[1], picture.shape[0])
        self._encoder.write(picture)

    def _open(self, width: int, height: int) -> _Encoder:
        try:
            return _av_encoder(self._temporary, self._fps, width, height, self._alpha)
        except _Unavailable as reason:
            if self._shown.suffix.lower() != ".mp4":
                raise UserError(
                    f"{self._shown}: cannot write VP9{' with alpha' if self._alpha else ''} ({reason}); "
                    "install the package av (pip install av), or choose a folder, for PNG pictures"
                ) from None
            _log.warning(
                "%s: no H.264 here (%s); written by OpenCV, which not all players show",
                self._shown,
                reason,
            )
            return _OpenCv(_opencv_writer(self._temporary, self._fps, width, height))

    def close(self) -> None:
        """Ends the film. Raises ValueError when it has no picture."""
        if self._encoder is None:
            raise ValueError(f"{self._shown}: no pictures to write")
        self._encoder.close()
        if not self._temporary.is_file() or self._temporary.stat().st_size == 0:
            raise UserError(
                f"{self._shown}: the film could not be written; check the space on the disk"
            )


@contextlib.contextmanager
def open_film(path: Path, fps: float, *, alpha: bool = False) -> Iterator[Film]:
    """A film to write pictures to; it stands at ``path`` once the block has ended well.

    Raises UserError when the name ends in neither .mp4 nor .webm, for an .mp4 with alpha (it holds
    none), or where the codec is missing.
    """
    path = Path(path)
    check_film(path, alpha)
    with atomic_path(path) as temporary:
        film = Film(path, temporary, fps, alpha)
        try:
            yield film
        except BaseException:
            if film._encoder is not None:
                with contextlib.suppress(Exception):
                    film._encoder.close()  # the file is removed; what counts is the first error
            raise
        film.close()


def check_film(path: Path, alpha: bool) -> None:
    """Raises UserError when no film of that name can be written, before anything is rendered for
    it."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: films are {' or '.join(SUFFIXES)}, not {suffix or 'without an ending'}"
        )
    if alpha and suffix == ".mp4":
        raise UserError(
            f"{path}: an .mp4 holds no transparency; write a .webm, or a folder of PNG pictures"
        )
    if suffix == ".webm":
        try:
            _codec(suffix)
        except _Unavailable as reason:
            raise UserError(
                f"{path}: cannot write VP9 ({reason}); install the package av (pip install av), or choose a folder, "
                "for PNG pictures"
            ) from None


def fill_hidden(picture: np.ndarray) -> np.ndarray:
    """Straight colours [H, W, 4] uint8 whose invisible pixels take on the colours near them.

    Codecs store colour at half the resolution and blocks at a time: what lies hidden beside an edge
        would stain it.
    """
    import cv2

    alpha = picture[..., 3:].astype(np.float32)
    hidden = alpha[..., 0] == 0
    if not hidden.any() or hidden.all():
        return picture
    weighted = np.concatenate([picture[..., :3] * alpha, alpha], 2)
    colour = weighted.sum((0, 1))[:3] / weighted.sum((0, 1))[3] * np.ones_like(weighted[..., :3])
    for reach in (65, 17, 5):
        near = cv2.blur(weighted, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        colour = np.where(
            near[..., 3:] > 0.01, near[..., :3] / np.maximum(near[..., 3:], 0.01), colour
        )
    filled = picture.copy()
    filled[hidden, :3] = np.clip(colour[hidden] + 0.5, 0, 255).astype(np.uint8)
    return filled


def _codec(suffix: str) -> str:
    """The name of the codec for a film. Raises _Unavailable."""
    name = {".mp4": "libx264", ".webm": "libvpx-vp9"}[suffix]
    try:
        import av
    except ImportError as error:
        raise _Unavailable(f"the package av cannot be imported: {error}") from None
    if name not in av.codecs_available:
        raise _Unavailable(f"the package av has no {name}")
    return name


def _av_encoder(path: Path, fps: float, width: int, height: int, alpha: bool) -> _Encoder:
    suffix = path.suffix.lower()
    return _Av(path, _codec(suffix), fps, (width, height), alpha)


class _Av:
    def __init__(
        self, path: Path, codec: str, fps: float, size: tuple[int, int], alpha: bool
    ) -> None:
        import av

        self._av = av
        flags = {"movflags": "faststart"} if codec == "libx264" else {}
        # the name must last: it is opened later, and once more at the end
        self._link = contextlib.ExitStack()
        self._container = av.open(self._link.enter_context(utf8_path(path)), "w", options=flags)
        rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
        options = dict(_X264 if codec == "libx264" else _VP9)
        self._stream = self._container.add_stream(codec, rate=rate, options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuva420p" if alpha else "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if alpha:
            self._stream.metadata["alpha_mode"] = "1"
        self._layout, self._time_base, self._count = ("rgba" if alpha else "rgb24"), 1 / rate, 0

    def write(self, picture: np.ndarray) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=self._layout)
        frame = frame.reformat(
            format=self._stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = self._count, self._time_base
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        with self._link:
            try:
                self._container.mux(self._stream.encode())
            finally:
                self._container.close()


class _OpenCv:
    def __init__(self, writer) -> None:
        self._writer = writer

    def write(self, picture: np.ndarray) -> None:
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def close(self) -> None:
        self._writer.release()


def _opencv_writer(path: Path, fps: float, width: int, height: int):
    """OpenCV's writer of a film of even size, by the first codec that it has. Raises UserError
    where it has none."""
    import cv2

    # of OpenCV 5, and of those before
    logs = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2
    level = logs.getLogLevel()
    logs.setLogLevel(0)  # silent: a codec that is missing is expected
    try:
        with utf8_path(path) as name:
            for codec in _OPENCV_CODECS:
                writer = cv2.VideoWriter(
                    name, cv2.VideoWriter_fourcc(*codec), max(fps, 1.0), (width, height)
                )
                if writer.isOpened():
                    if codec != _OPENCV_CODECS[0]:
                        _log.info(
                            "%s: written as MPEG-4 part 2, which browsers do not play", path.name
                        )
                    return writer
    finally:
        logs.setLogLevel(level)
    wanted = " or ".join(_OPENCV_CODECS)
    raise UserError(
        f"{path}: OpenCV cannot write films here ({wanted}); install opencv-contrib-python"
    )
