"""Pictures for people: errors as heat, pictures side by side as a film."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from scene.errors import UserError
from scene.files import atomic_path

_log = logging.getLogger(__name__)

ERROR_SCALE = 0.25
"""Mean absolute difference that is drawn brightest."""
# Of the codecs that OpenCV's wheels can write (no H.264 among them) browsers play VP9; MPEG-4 part 2 comes last.
_CODECS = ("vp09", "mp4v")


def to_uint8(picture) -> np.ndarray:
    """[H, W, 3] uint8 of a picture in [0, 1] (array or tensor), or of one that is uint8 already."""
    if hasattr(picture, "detach"):
        picture = picture.detach().cpu().numpy()
    picture = np.asarray(picture)
    return picture if picture.dtype == np.uint8 else (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def error_map(truth, avatar) -> np.ndarray:
    """Heat of the mean absolute difference of two pictures [H, W, 3] in [0, 1]: black none, yellow 0.25. uint8 RGB."""
    import cv2

    difference = np.abs(to_uint8(truth).astype(np.float32) - to_uint8(avatar)).mean(-1) / 255
    levels = to_uint8(difference / ERROR_SCALE)
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].copy()


def depth_map(depth: np.ndarray, alpha: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Expected depth [H, W] as colour [H, W, 3], near bright, far dark, between two depths in metres (if none are
    given, over the range that is covered); uint8.

    White where ``alpha`` [H, W] is below a half.
    """
    import cv2

    covered = alpha > 0.5
    if limits is None:
        limits = np.percentile(depth[covered], (1, 99)) if covered.any() else (0.0, 1.0)
    near, far = limits
    levels = to_uint8(np.clip((far - depth) / max(far - near, 1e-6), 0, 1))
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    return np.where(covered[..., None], colours, 255).astype(np.uint8)


def write_side_by_side(path: Path, rows: Iterable[Sequence], fps: float) -> None:
    """Writes a film of which each frame shows some pictures [H, W, 3] (uint8, or in [0, 1]) from left to right.

    All frames must have the same size; odd sizes are padded with white. Raises UserError when nothing can be written.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        writer, size = None, None
        try:
            for row in rows:
                picture = np.concatenate([to_uint8(part) for part in row], 1)
                height, width = picture.shape[:2]
                picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
                if writer is None:
                    size = picture.shape
                    writer = open_writer(temporary, fps, size[1], size[0])
                elif picture.shape != size:
                    raise ValueError(f"write_side_by_side: pictures of {list(size)}, then of {list(picture.shape)}")
                writer.write(picture[..., ::-1].copy())
        finally:
            if writer is not None:
                writer.release()
        if writer is None:
            raise ValueError(f"{path}: no frames to write")
        if not temporary.is_file() or temporary.stat().st_size == 0:
            raise UserError(f"{path}: the film could not be written; check the space on the disk")


def open_writer(path: Path, fps: float, width: int, height: int):
    """OpenCV's writer of a film of even size, by the first codec that it has. Raises UserError where it has none."""
    import cv2

    level = cv2.getLogLevel()
    cv2.setLogLevel(0)  # silent: a codec that is missing is expected
    try:
        for codec in _CODECS:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), max(fps, 1.0), (width, height))
            if writer.isOpened():
                if codec != _CODECS[0]:
                    _log.info("%s: written as MPEG-4 part 2, which browsers do not play", path.name)
                return writer
    finally:
        cv2.setLogLevel(level)
    raise UserError(f"{path}: OpenCV cannot write films here ({' or '.join(_CODECS)}); install opencv-contrib-python")
