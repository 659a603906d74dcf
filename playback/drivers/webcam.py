"""A face before a webcam as a driver, live.

This module needs ``preprocess`` (landmark detector, tracker, camera), which playing an avatar does
not: it is imported when a webcam is to drive, never before (tests/test_imports.py holds this).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.transfer.retarget import Person
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger(__name__)

CALIBRATION_S = 1.5
_LEAST = 12  # frames of calibration
_MAX_SIDE = 640  # pixels of the long side of the pictures in which the face is looked for


class Webcam:
    """States of a face as the camera sees it, after a calibration of about 1.5 s: look into the
    camera, at ease.

    Iterating gives states; ``time_s`` is the moment of the newest one, ``seen_s`` when its picture
    was there (by time.perf_counter), ``picture(0)`` its picture, and ``person`` what calibration
    learnt; ``detection_s`` and ``tracking_s`` are what the newest state cost. Frames without a face
    repeat the last state.
    """

    def __init__(self, source: str, bundle: AvatarBundle) -> None:
        from likeness.head_models import HEAD_MODELS
        from likeness.preprocess.camera_stream import CameraStream

        if bundle.head_model not in HEAD_MODELS:
            raise UserError(
                f"--webcam {source}: cannot drive an avatar of head model {bundle.head_model!r}; known: "
                f"{', '.join(HEAD_MODELS)}"
            )
        self._camera = CameraStream(source)
        self._model = HEAD_MODELS[bundle.head_model]()
        self.name, self.fps, self.live = f"webcam {source}", self._camera.fps, self._camera.live
        self.person: Person | None = None
        self.time_s = self.seen_s = self.detection_s = self.tracking_s = 0.0
        self._picture: np.ndarray | None = None

    def picture(self, index: int = 0) -> np.ndarray | None:
        return self._picture

    def __iter__(self) -> Iterator[HeadState]:
        """States [] in the names of the head model, from the end of the calibration on."""
        from likeness.preprocess.landmarks import FaceMeshDetector, face_widths
        from likeness.preprocess.tracking.live import calibrate

        K = self._intrinsics()
        kept: list[tuple[torch.Tensor, float]] = []
        tracker, state = None, None
        _log.info("calibrating: look into the camera, at ease, for %.1f seconds", CALIBRATION_S)
        with FaceMeshDetector(max_faces=1) as detector:
            for frame in self._camera:
                self.seen_s, self.time_s = time.perf_counter(), frame.time_s
                self._picture, image, scale = frame.image, *_reduced(frame.image)
                faces = detector(image)
                points = (
                    torch.from_numpy(faces[face_widths(faces).argmax()] / scale)
                    if len(faces)
                    else None
                )
                if tracker is None:
                    if points is not None:
                        kept.append((points, frame.time_s))
                    if len(kept) >= _LEAST and kept[-1][1] - kept[0][1] >= CALIBRATION_S:
                        places, moments = zip(*kept)
                        moments = torch.tensor(moments, dtype=torch.float64)
                        tracker, tracking = calibrate(torch.stack(places), moments, K, self._model)
                        names = tuple(self._model.expression_names), tuple(self._model.joint_names)
                        self.person = Person.of_states(tracking.states, *names).unlimited()
                        state = tracking.states[-1]
                        _log.info("calibrated; go ahead")
                    continue
                found_s = time.perf_counter()
                if points is not None:
                    state = tracker(points, frame.time_s)
                self.detection_s, self.tracking_s = (
                    found_s - self.seen_s,
                    time.perf_counter() - found_s,
                )
                yield state
        if tracker is None:
            found = f"a face in only {len(kept)} frames" if kept else "no face"
            raise UserError(
                f"--webcam {self._camera.source}: showed {found}; calibration needs {CALIBRATION_S:g} s of one that "
                "looks into the camera, large and well lit"
            )

    def _intrinsics(self) -> torch.Tensor:
        from likeness.preprocess.crop import UNCROPPED_FOCAL

        focal = UNCROPPED_FOCAL * max(self._camera.width, self._camera.height)
        return torch.tensor(
            [[focal, 0, self._camera.width / 2], [0, focal, self._camera.height / 2], [0, 0, 1]],
            dtype=torch.float64,
        )


def _reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture of at most 640 pixels, in which faces are found as well and sooner, and its
    scale."""
    import cv2

    scale = min(1.0, _MAX_SIDE / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale
