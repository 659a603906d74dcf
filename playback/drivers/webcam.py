"""A face before a webcam as a driver, live.

Preprocessing (landmark detector, tracker, camera), which playing an avatar does not need, is
imported when a webcam is opened (tests/test_imports.py holds this).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from likeness.playback.drivers.base import DriverOptions, LiveFrame
from likeness.playback.transfer.retarget import MotionProfile
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from likeness.fitting.bundle import AvatarBundle

_log = logging.getLogger(__name__)

CALIBRATION_S = 1.5
_MIN_FRAMES = 12  # of calibration
_MAX_SIDE = 640  # pixels of the long side of the images in which the face is searched


class Webcam:
    """States of a face as the camera sees it, after a calibration of about 1.5 s: look into the
    camera with a neutral face. Frames without a face repeat the last state."""

    def __init__(self, source: str, bundle: AvatarBundle) -> None:
        from likeness.head_models import HEAD_MODELS
        from likeness.preprocess.camera_stream import CameraStream

        if bundle.head_model not in HEAD_MODELS:
            raise UserError(
                f"--webcam {source}: cannot drive an avatar of head model {bundle.head_model!r}; "
                f"known: {', '.join(HEAD_MODELS)}"
            )
        self._camera = CameraStream(source)
        self._model = HEAD_MODELS[bundle.head_model]()
        self.name, self.fps = f"webcam {source}", self._camera.fps

    def frames(self) -> Iterator[LiveFrame]:
        """In the names of the head model, from the end of the calibration on."""
        from likeness.preprocess.landmarks import FaceMeshDetector, face_widths
        from likeness.preprocess.tracking.live import calibrate

        calibration: list[tuple[torch.Tensor, float]] = []
        tracker = state = profile = None
        _log.info("calibrating: look into the camera, at ease, for %.1f seconds", CALIBRATION_S)
        with FaceMeshDetector(max_faces=1) as detector:
            for frame in self._camera:
                seen_s = time.perf_counter()
                image, scale = _reduced(frame.image)
                faces = detector(image)
                detected_s = time.perf_counter()
                points = None
                if len(faces):
                    points = torch.from_numpy(faces[face_widths(faces).argmax()] / scale)
                if tracker is None or profile is None or state is None:
                    if points is not None:
                        calibration.append((points, frame.time_s))
                    if (
                        len(calibration) >= _MIN_FRAMES
                        and frame.time_s - calibration[0][1] >= CALIBRATION_S
                    ):
                        landmarks, times = zip(*calibration)
                        times = torch.tensor(times, dtype=torch.float64)
                        tracker, tracking = calibrate(
                            torch.stack(landmarks), times, self._intrinsics(), self._model
                        )
                        names = tuple(self._model.expression_names), tuple(self._model.joint_names)
                        profile = MotionProfile.of_states(tracking.states, *names).unlimited()
                        state = tracking.states[-1]
                        _log.info("calibrated; go ahead")
                    continue
                if points is not None:
                    state = tracker(points, frame.time_s)
                tracking_s = time.perf_counter() - detected_s
                seconds = detected_s - seen_s, tracking_s
                yield LiveFrame(state, frame.time_s, frame.image, seen_s, profile, *seconds)
        if tracker is None:
            count = len(calibration)
            faces = f"a face in only {count} frames" if count else "no face"
            raise UserError(
                f"--webcam {self._camera.source}: showed {faces}; calibration needs "
                f"{CALIBRATION_S:g} s of one that looks into the camera, large and well lit"
            )

    def _intrinsics(self) -> torch.Tensor:
        from likeness.preprocess.crop import UNCROPPED_FOCAL

        width, height = self._camera.width, self._camera.height
        focal = UNCROPPED_FOCAL * max(width, height)
        K = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
        return torch.tensor(K, dtype=torch.float64)


def load(source: str, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Webcam:
    """A camera by its number, or a file that is played as one."""
    return Webcam(source, bundle)


def _reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image of at most 640 pixels, in which faces are found as well and sooner, and its
    scale."""
    import cv2

    scale = min(1.0, _MAX_SIDE / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale
