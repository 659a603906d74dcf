"""The square around the head that stays fixed over a clip, and the intrinsics that follow it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from likeness.head_models.landmarks import CHIN, FOREHEAD
from likeness.preprocess.video import VideoInfo

if TYPE_CHECKING:
    import numpy as np

    from likeness.scene.camera import Camera

# Parts of the crop's side, as measured on a clip of the INSTA dataset: forehead to chin, top to
# forehead.
_FACE_HEIGHT = 0.38
_FOREHEAD_AT = 0.34
# What must be in the picture around forehead-to-chin, in its units: hair above and beside, neck
# below.
_ABOVE, _BELOW, _BESIDE = 0.55, 0.45, 0.3
# A crop that would be this large a part of the short side takes all of it: of any picture, and of
# one that is square, which somebody has cropped around a head before.
_WHOLE, _WHOLE_SQUARE = 0.95, 0.75
_SQUARE_ASPECT = 1.05

CLOSE_CROP_FOCAL = 2.5
UNCROPPED_FOCAL = 1.0
_CLOSE_CROP_ASPECT = 1.2
_DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square of a picture in whole pixels; always inside the picture."""

    left: int
    top: int
    side: int

    def points(self, points: np.ndarray, size: int) -> np.ndarray:
        """Pixels of the picture [*b, 2] as pixels of the crop resized to ``size``."""
        import numpy as np

        return (points - np.array([self.left, self.top], points.dtype)) * points.dtype.type(
            size / self.side
        )

    def apply(self, image: np.ndarray, size: int) -> np.ndarray:
        """The crop of a picture [H, W, C] uint8, resized to [size, size, C]."""
        import numpy as np

        from likeness.preprocess.video import import_cv2

        cv2 = import_cv2()
        square = image[self.top : self.top + self.side, self.left : self.left + self.side]
        if self.side == size:
            return np.ascontiguousarray(square)
        method = cv2.INTER_AREA if self.side > size else cv2.INTER_LANCZOS4
        return cv2.resize(square, (size, size), interpolation=method)


def choose_crop(points: np.ndarray, width: int, height: int) -> Crop:
    """A square that frames the head as the datasets do, from landmarks [T, 478, 2] in pixels of the
    picture.

    The side follows the face's size, grows to hold the head wherever it goes in the clip (1st to
    99th percentile), and is at most the picture's short side, which it takes whole when it comes
    near to it.
    """
    import numpy as np

    face = np.linalg.norm(points[:, FOREHEAD] - points[:, CHIN], axis=-1)
    # nodding shortens it: the larger values are the true ones
    face_height = float(np.percentile(face, 90))
    low, high = points.min(1), points.max(1)
    left = float(np.percentile(low[:, 0], 1)) - _BESIDE * face_height
    right = float(np.percentile(high[:, 0], 99)) + _BESIDE * face_height
    top = float(np.percentile(low[:, 1], 1)) - _ABOVE * face_height
    bottom = float(np.percentile(high[:, 1], 99)) + _BELOW * face_height
    side = max(face_height / _FACE_HEIGHT, right - left, bottom - top)
    short = min(width, height)
    square = max(width, height) <= _SQUARE_ASPECT * short
    if side >= (_WHOLE_SQUARE if square else _WHOLE) * short:
        side = short
    side = max(1, min(round(side), short))
    center_x = float(np.median((low[:, 0] + high[:, 0]) / 2))
    center_x = _within(center_x, right - side / 2, left + side / 2)
    at_top = float(np.median(low[:, 1])) - _FOREHEAD_AT * side
    at_top = _within(at_top, bottom - side, top)
    return Crop(_fit(center_x - side / 2, side, width), _fit(at_top, side, height), side)


def _within(value: float, low: float, high: float) -> float:
    """Nearest to ``value`` between two bounds; their middle where they leave no room."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def _fit(start: float, side: int, length: int) -> int:
    return max(0, min(round(start), length - side))


def focal_pixels(info: VideoInfo, focal: float | None) -> tuple[float, str]:
    """Focal length in pixels of the full picture, and where it comes from in words.

    ``focal`` is in units of the picture's long side. Without it: the file's metadata (35 mm
    equivalent, by the diagonal); else an assumption, because a talking head does not tell it: 2.5
    long sides for a picture that is nearly square (cropped from a larger one around a head), 1 long
    side for others (a phone or webcam with all it sees).
    """
    long_side = max(info.width, info.height)
    if focal is not None:
        return focal * long_side, "given"
    if info.focal_35mm is not None:
        return info.focal_35mm / _DIAGONAL_35MM * math.hypot(
            info.width, info.height
        ), "the video's metadata"
    if long_side <= _CLOSE_CROP_ASPECT * min(info.width, info.height):
        return CLOSE_CROP_FOCAL * long_side, "assumed for a close crop"
    return UNCROPPED_FOCAL * long_side, "assumed for an uncropped camera"


def crop_camera(info: VideoInfo, crop: Crop, focal_px: float, size: int) -> Camera:
    """The camera of the resized crop; world = camera. The principal point is the middle of the FULL
    picture."""
    import torch

    from likeness.scene.camera import Camera

    K = torch.tensor(
        [[focal_px, 0.0, info.width / 2], [0.0, focal_px, info.height / 2], [0.0, 0.0, 1.0]]
    )
    return (
        Camera(K, torch.eye(4), info.width, info.height)
        .cropped(crop.left, crop.top, crop.side, crop.side)
        .resized(size, size)
    )
