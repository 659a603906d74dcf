"""Facial landmarks: MediaPipe's FaceMesh with attention, 478 points with irises, from the models
inside its wheel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from likeness.head_models.landmarks import EYE_CORNERS, NUM_LANDMARKS
from likeness.preprocess.silence import silent_stderr

# images with faces after which no part of the graph logs anything more
_WARM_UP_FACES = 3


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Landmarks of one person over a sequence of T images.

    points: [T, 478, 2] float32 pixels (0 where not found). found: [T] bool. num_faces: [T] faces in
        the image.
    """

    points: np.ndarray
    found: np.ndarray
    num_faces: np.ndarray


class FaceMeshDetector:
    """Finds up to ``max_faces`` faces in each image of a sequence (tracking mode: less noisy than
    single images), or with ``static`` in images that have nothing to do with each other.

    Measured on the test clips: the points of a lone face do not depend on ``max_faces``; looking
    out for more than one costs 2 ms a frame. Use as a context manager, or call ``close``.
    """

    def __init__(
        self, max_faces: int = 3, min_confidence: float = 0.5, *, static: bool = False
    ) -> None:
        self._faces_to_silence = _WARM_UP_FACES
        with silent_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            self._mesh: Any = FaceMesh(
                static_image_mode=static,
                max_num_faces=max_faces,
                refine_landmarks=True,
                min_detection_confidence=min_confidence,
                min_tracking_confidence=min_confidence,
            )
            # the graph starts in its threads: wait for its chatter
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Landmarks [faces, 478, 2] float32 in pixels (centres at +0.5) of an RGB image [H, W, 3]
        uint8."""
        if self._faces_to_silence > 0:
            with silent_stderr():
                result = self._mesh.process(image)
        else:
            result = self._mesh.process(image)
        faces = result.multi_face_landmarks or []
        self._faces_to_silence -= len(faces)
        points = np.array([[(p.x, p.y) for p in face.landmark] for face in faces], np.float32)
        height, width = image.shape[:2]
        return points.reshape(-1, NUM_LANDMARKS, 2) * np.array([width, height], np.float32)

    def close(self) -> None:
        self._mesh.close()

    def __enter__(self) -> FaceMeshDetector:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def detect(images: Iterable[np.ndarray], max_faces: int = 3) -> Landmarks:
    """Landmarks of the main person in a sequence of RGB images [H, W, 3] uint8.

    Where there are several faces, the one nearest to the last one found is taken (the largest at
    first).
    """
    points, counts = [], []
    last = None
    with FaceMeshDetector(max_faces) as detector:
        for image in images:
            faces = detector(image)
            counts.append(len(faces))
            if len(faces) == 0:
                points.append(None)
                continue
            if last is None:
                choice = int(face_widths(faces).argmax())
            else:
                choice = int(np.linalg.norm(faces.mean(1) - last.mean(0), axis=-1).argmin())
            last = faces[choice]
            points.append(last)
    found = np.array([face is not None for face in points], bool)
    blank = np.zeros((NUM_LANDMARKS, 2), np.float32)
    stacked = (
        np.stack([blank if face is None else face for face in points])
        if points
        else blank[None][:0]
    )
    return Landmarks(stacked, found, np.array(counts, np.int64))


def face_widths(points: np.ndarray) -> np.ndarray:
    """Size [*b] in pixels of faces [*b, 478, 2]: the root of the area of the box around the
    landmarks."""
    extent = points.max(-2) - points.min(-2)
    return np.sqrt(extent[..., 0] * extent[..., 1])


def eye_distances(points: np.ndarray) -> np.ndarray:
    """Distances [*b] in pixels of the outer eye corners of faces [*b, 478, 2]."""
    return np.linalg.norm(points[..., EYE_CORNERS[0], :] - points[..., EYE_CORNERS[1], :], axis=-1)
