"""The square around the head that stays fixed over a clip, and the intrinsics that follow it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from likeness.head_models.landmarks import CHIN, FOREHEAD

if TYPE_CHECKING:
    from likeness.scene.camera import Camera

# Parts of the crop's side, as measured on a clip of the INSTA dataset: forehead to chin, top to
# forehead.
_FACE_HEIGHT = 0.38
_FOREHEAD_AT = 0.34
# What must be in the image around forehead-to-chin, in its units: hair above and beside, neck
# below.
_ABOVE, _BELOW, _BESIDE = 0.55, 0.45, 0.3
# A crop that would be this large a part of the short side takes all of it: of any image, and of
# one that is square, which somebody has cropped around a head before.
_WHOLE, _WHOLE_SQUARE = 0.95, 0.75
_SQUARE_ASPECT = 1.05

CLOSE_CROP_FOCAL = 2.5
UNCROPPED_FOCAL = 1.0
_CLOSE_CROP_ASPECT = 1.2
_DIAGONAL_35MM = math.hypot(36.0, 24.0)


class FullFrame(Protocol):
    """What is filmed or photographed: its size in pixels, and the 35 mm equivalent focal length in
    millimetres where its file tells it."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def focal_35mm(self) -> float | None: ...


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square of an image in whole pixels; always inside the image."""

    left: int
    top: int
    side: int

    def points(self, points: np.ndarray, size: int) -> np.ndarray:
        """Pixels of the image [*b, 2] as pixels of the crop resized to ``size``."""
        return (points - np.array([self.left, self.top], points.dtype)) * points.dtype.type(
            size / self.side
        )

    def apply(self, image: np.ndarray, size: int) -> np.ndarray:
        """The crop of an image [H, W, C] uint8, resized to [size, size, C]."""
        from likeness.preprocess.video import import_cv2

        cv2 = import_cv2()
        square = image[self.top : self.top + self.side, self.left : self.left + self.side]
        if self.side == size:
            return np.ascontiguousarray(square)
        method = cv2.INTER_AREA if self.side > size else cv2.INTER_LANCZOS4
        return cv2.resize(square, (size, size), interpolation=method)


@dataclasses.dataclass(frozen=True)
class Framing:
    """How a clip is cut: a square that stays, resized to [size, size], and its camera.

    focal_source: where the focal length comes from, in words; focal_px: in pixels of the full
    frame; long_side: of the full frame, in pixels.
    """

    crop: Crop
    size: int
    camera: Camera
    focal_source: str
    focal_px: float
    long_side: int

    @classmethod
    def of(
        cls, points: np.ndarray, full: FullFrame, size: int, focal_px: float, focal_source: str
    ) -> Framing:
        """The framing by landmarks [T, 478, 2] in pixels of the full frame."""
        crop = choose_crop(points, full.width, full.height)
        camera = crop_camera(full, crop, focal_px, size)
        return cls(crop, size, camera, focal_source, focal_px, max(full.width, full.height))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Pixels of the full frame [*b, 2] as pixels of the resized crop."""
        return self.crop.points(points, self.size)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The resized crop [size, size, C] of a full frame [H, W, C] uint8."""
        return self.crop.apply(image, self.size)

    def report(self) -> dict[str, Any]:
        """The parts ``crop`` and ``camera`` of a capture's report."""
        return {
            "crop": {**dataclasses.asdict(self.crop), "size": self.size},
            "camera": {
                "focal_px": round(float(self.camera.K[0, 0]), 3),
                "source": self.focal_source,
                "focal_long_sides": round(self.focal_px / self.long_side, 4),
            },
        }


def choose_crop(points: np.ndarray, width: int, height: int) -> Crop:
    """A square that frames the head as the datasets do, from landmarks [T, 478, 2] in pixels of the
    image.

    The side follows the face's size, grows to hold the head wherever it goes in the clip (1st to
    99th percentile), and is at most the image's short side, which it takes whole when it comes
    near to it.
    """
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


def focal_pixels(full: FullFrame, focal: float | None) -> tuple[float, str]:
    """Focal length in pixels of the full frame, and where it comes from in words.

    ``focal`` is in units of the frame's long side. Without it: the file's metadata (35 mm
    equivalent, by the diagonal); else an assumption, because a talking head does not tell it: 2.5
    long sides for a frame that is nearly square (cropped from a larger one around a head), 1 long
    side for others (a phone or webcam with all it sees).
    """
    long_side, short_side = max(full.width, full.height), min(full.width, full.height)
    if focal is not None:
        return focal * long_side, "given"
    if full.focal_35mm is not None:
        diagonal = math.hypot(full.width, full.height)
        return full.focal_35mm / _DIAGONAL_35MM * diagonal, "the video's metadata"
    if long_side <= _CLOSE_CROP_ASPECT * short_side:
        return CLOSE_CROP_FOCAL * long_side, "assumed for a close crop"
    return UNCROPPED_FOCAL * long_side, "assumed for an uncropped camera"


def crop_camera(full: FullFrame, crop: Crop, focal_px: float, size: int) -> Camera:
    """The camera of the resized crop; world = camera. The principal point is the middle of the FULL
    frame."""
    import torch

    from likeness.scene.camera import Camera

    K = torch.tensor(
        [[focal_px, 0.0, full.width / 2], [0.0, focal_px, full.height / 2], [0.0, 0.0, 1.0]]
    )
    uncropped = Camera(K, torch.eye(4), full.width, full.height)
    return uncropped.cropped(crop.left, crop.top, crop.side, crop.side).resized(size, size)
