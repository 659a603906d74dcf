"""Finds the face of a still image."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from likeness.preprocess.crop import Framing
from likeness.preprocess.landmarks import FaceMeshDetector, face_widths
from likeness.preprocess.portraits.reading import Still
from likeness.preprocess.video import import_cv2
from likeness.scene.errors import UserError

_log = logging.getLogger(__name__)

MIN_FACE = 64  # pixels: the root of the area of the box around the landmarks
_MAX_FACES = 8
# pixels of the long side of what the detector is given: it looks at 192 of them itself
_LOOKED_AT = 1280
# of the long side: where the whole image shows no face, small ones are looked for
_WINDOWS = (0.5, 0.3)
_SAME = 0.5  # of a face's size: two nearer than this are one


@dataclasses.dataclass(frozen=True)
class Face:
    """points: [478, 2] float32 pixels of the still. others: faces that were found beside it."""

    points: np.ndarray
    others: int


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What is known of one image before its head is tracked; landmarks: [478, 2] pixels of the
    crop."""

    still: Still
    face: Face
    framing: Framing
    landmarks: np.ndarray


def find_face(still: Still, detector: FaceMeshDetector) -> Face:
    """The largest face. Raises UserError where there is none, or it is too small to say
    anything."""
    faces = _in_window(still, detector, 0, 0, still.width, still.height)
    if len(faces) == 0:
        faces = _in_small_windows(still, detector)
    if len(faces) == 0:
        raise UserError(
            f"{still.path}: no face was found; expected one person's face, large, well lit, seen "
            "from the front or half from the side (no animal, no profile)"
        )
    sizes = face_widths(faces)
    order = np.argsort(-sizes)
    if sizes[order[0]] < MIN_FACE:
        raise UserError(
            f"{still.path}: the face is only {sizes[order[0]]:.0f} pixels wide; expected at least "
            f"{MIN_FACE}, better 200: take the image from nearer, or at a higher resolution"
        )
    if len(faces) > 1:
        _log.warning(
            "%s: %d faces; the largest is taken (%.0f pixels, the next %.0f)",
            still.path.name,
            len(faces),
            sizes[order[0]],
            sizes[order[1]],
        )
    return Face(faces[order[0]], len(faces) - 1)


def open_detector() -> FaceMeshDetector:
    """A detector for single images. Close it, or use it as a context."""
    return FaceMeshDetector(_MAX_FACES, static=True)


def _in_window(
    still: Still, detector: FaceMeshDetector, left: int, top: int, width: int, height: int
) -> np.ndarray:
    """Faces [F, 478, 2] of a part of the image, in the image's pixels."""
    cv2 = import_cv2()
    part = still.rgb[top : top + height, left : left + width]
    if still.alpha is not None:  # what an editor left in transparent pixels is nobody's face
        alpha = still.alpha[top : top + height, left : left + width, None].astype(np.float32) / 255
        part = (part * alpha + 255 * (1 - alpha)).astype(np.uint8)
    scale = min(1.0, _LOOKED_AT / max(width, height))
    if scale < 1:
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points = detector(np.ascontiguousarray(part))
    factors = np.array([width / part.shape[1], height / part.shape[0]], np.float32)
    return points * factors + np.array([left, top], np.float32)


def _in_small_windows(still: Still, detector: FaceMeshDetector) -> np.ndarray:
    """The same over overlapping windows, the larger ones first; each face once."""
    for share in _WINDOWS:
        side = round(share * max(still.width, still.height))
        if side < 2 * MIN_FACE:
            break
        distinct: list[np.ndarray] = []
        for left in _starts(still.width, side):
            for top in _starts(still.height, side):
                window = min(side, still.width), min(side, still.height)
                for face in _in_window(still, detector, left, top, *window):
                    near = [np.linalg.norm(face.mean(0) - other.mean(0)) for other in distinct]
                    if min(near, default=np.inf) > _SAME * face_widths(face):
                        distinct.append(face)
        if distinct:
            return np.stack(distinct)
    return np.zeros((0, 478, 2), np.float32)


def _starts(length: int, side: int) -> Iterator[int]:
    """Where windows of a side begin, half overlapping, the last at the end."""
    last = max(length - side, 0)
    count = -(-last // max(side // 2, 1)) + 1
    yield from sorted({round(last * i / max(count - 1, 1)) for i in range(count)})
