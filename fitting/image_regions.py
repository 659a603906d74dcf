"""Where a frame's face, mouth and eyes are, and the masks by which errors are told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from likeness.head_models.landmarks import CHIN, EYES, LIPS, OVAL
from likeness.scene.capture import TrackedFrame

_MOUTH_PADDING = 0.15  # of the box's longer side; on every side
_EYE_PADDING = 0.25
_BORDER_PX = 3.0  # at 512 pixels: how far a displaced outline reaches
_SOFT = (5, 250)  # mattes between these are neither person nor background
_PERSON = 128


@dataclasses.dataclass(frozen=True)
class Box:
    """Pixels left <= x < right, top <= y < bottom; empty when the region lies outside the
    image."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index a image [H, W, ...]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top

    def __iter__(self) -> Iterator[int]:
        return iter((self.left, self.top, self.right, self.bottom))


def box_around(points: np.ndarray, width: int, height: int, padding: float = 0.0) -> Box:
    """The box of points [N, 2] in pixels, grown on each side by ``padding`` times its longer side,
    and clipped."""
    low, high = points.min(0), points.max(0)
    margin = padding * (high - low).max()
    left, top = np.floor(low - margin).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(high + margin).clip(0, (width, height)).astype(int)
    return Box(int(left), int(top), int(right), int(bottom))


def face_boxes(frame: TrackedFrame) -> dict[str, tuple[Box, ...]]:
    """The boxes of a frame's ``face`` (its oval), ``mouth`` and ``eyes`` (two), from its
    landmarks."""
    points = frame.landmarks.detach().cpu().numpy()
    size = (frame.camera.width, frame.camera.height)
    return {
        "face": (box_around(points[list(OVAL)], *size),),
        "mouth": (box_around(points[list(LIPS)], *size, _MOUTH_PADDING),),
        "eyes": tuple(box_around(points[list(e)], *size, _EYE_PADDING) for e in EYES.values()),
    }


def head_box(frame: TrackedFrame, divisor: int = 1) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the whole head with its hair, in the image reduced by
    ``divisor``.

    The face's oval ends at the hairline and before the ears: it is grown by a half upwards and by a
    quarter sideways.
    """
    points = frame.landmarks.detach().cpu().numpy()[list(OVAL)]
    low, high = points.min(0), points.max(0)
    width, height = high - low
    corners = np.array([low - (0.25 * width, 0.5 * height), high + (0.25 * width, 0.1 * height)])
    left, top, right, bottom = box_around(corners, frame.camera.width, frame.camera.height)
    return left // divisor, top // divisor, right // divisor, bottom // divisor


def boxes_mask(boxes: tuple[Box, ...], width: int, height: int) -> np.ndarray:
    """[H, W] bool: inside any of the boxes."""
    mask = np.zeros((height, width), bool)
    for box in boxes:
        mask[box.slices] = True
    return mask


def border_band(matte: np.ndarray) -> np.ndarray:
    """[H, W] bool: within 3 pixels (at 512, in proportion otherwise) of where a uint8 matte is soft
    or jumps."""
    import cv2

    radius = max(1, round(_BORDER_PX * max(matte.shape) / 512))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    low, high = _SOFT
    outside = cv2.dilate((matte >= low).astype(np.uint8), disc) > 0
    inside = cv2.erode((matte >= high).astype(np.uint8), disc) > 0
    return outside & ~inside


def error_masks(frame: TrackedFrame, matte: np.ndarray) -> dict[str, np.ndarray]:
    """Masks [H, W] bool that divide the image: ``border``, ``face``, ``torso`` and ``rest``; each
    pixel is in one.

    border: the matte's band. face: inside the oval of the landmarks. torso: the person below the
    chin (neck, shoulders, hair that hangs there). rest: hair, ears and background.
    """
    import cv2

    points = frame.landmarks.detach().cpu().numpy()
    border = border_band(matte)
    oval = np.zeros(matte.shape, np.uint8)
    cv2.fillConvexPoly(oval, cv2.convexHull(points[list(OVAL)].round().astype(np.int32)), (1,))
    face = (oval > 0) & ~border
    below = np.arange(matte.shape[0])[:, None] + 0.5 > points[CHIN, 1]
    torso = (matte >= _PERSON) & below & ~face & ~border
    return {"border": border, "face": face, "torso": torso, "rest": ~(border | face | torso)}
