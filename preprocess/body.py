"""Where the body stands in each frame, from the picture: shoulders sway by a few pixels while the head turns.

Two pixels of a dark shirt before a white wall cost an avatar about 2 dB, so that a body that stands still in the world
is only the first guess. What is below the head is registered to one frame of the clip, by translation in the picture
(Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", 2008).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.landmarks import CHIN
from scene.capture import Capture

if TYPE_CHECKING:
    import numpy as np

_BROW = 9  # FaceMesh point whose distance to the chin measures the head
_WORK_SIZE = 256  # pixels of the pictures that are registered
_BELOW_CHIN = 0.35  # of the head's height: what is higher moves with the head
_MIN_AREA = 0.03  # of the picture: less is no body to follow
_MIN_CORRELATION = 0.8
_MAX_SHIFT = 0.1  # of the picture
_SMOOTHING_FRAMES = 2.0  # a body is slow; single frames are measured to about a pixel
_MIN_FOLLOWED = 0.5  # of the frames; else the body is taken to stand still


def follow_body(capture: Capture, progress: bool = True) -> Capture:
    """A capture in which ``T_world_body`` moves with what is seen below the head; before, it is constant.

    Every frame is treated alike, and the mean over the training frames stays. The body stands still, as before, where
    too little of it is seen or it cannot be followed; ``report["body"]`` tells.
    """
    import numpy as np
    import torch
    from scipy import ndimage

    frames = capture.frames
    calm = np.zeros(len(frames), bool)
    calm[list(capture.train)] = True
    landmarks = np.stack([frame.landmarks.numpy() for frame in frames])
    pictures = [(frame.image_path, frame.matte_path) for frame in frames]
    motion = register_body(pictures, landmarks, frames[0].camera.width, calm, progress)
    shifts = ndimage.gaussian_filter1d(ndimage.median_filter(motion.shifts, (5, 1)), _SMOOTHING_FRAMES, axis=0)
    moved = []
    for frame, shift in zip(frames, shifts):
        T = frame.state.T_world_body.clone()
        # The world is the camera's frame: a pixel at the body's depth in metres.
        focal = frame.camera.K.diagonal()[:2]
        T[:2, 3] += torch.from_numpy(shift).float() * T[2, 3] / focal
        moved.append(dataclasses.replace(frame, state=dataclasses.replace(frame.state, T_world_body=T)))
    spread = np.abs(shifts - np.median(shifts, 0)).max(0)
    found = {"followed": round(motion.followed, 4), "sway_px": [round(float(value), 2) for value in spread]}
    return dataclasses.replace(capture, frames=tuple(moved), report={**capture.report, "body": found})


@dataclasses.dataclass(frozen=True)
class BodyMotion:
    """shifts: [T, 2] pixels of the capture's pictures, right and down. followed: share of frames in which the body was
    followed; where that is too small, all shifts are 0."""

    shifts: np.ndarray
    followed: float


def register_body(
    pictures: list[tuple[Path, Path]], landmarks: np.ndarray, size: int, calm: np.ndarray, progress: bool = True
) -> BodyMotion:
    """Shifts of what is below the head, by frame. pictures: image and matte, square, ``size`` pixels wide;
    landmarks: [T, 478, 2] pixels; calm: [T] bool, the frames over which the mean shift is 0."""
    import cv2
    import numpy as np
    from tqdm import tqdm

    count, scale = len(pictures), _WORK_SIZE / size
    height = np.linalg.norm(landmarks[:, CHIN] - landmarks[:, _BROW], axis=-1)
    top = int(np.percentile(landmarks[:, CHIN, 1] + _BELOW_CHIN * height, 90) * scale)
    shifts, good = np.zeros((count, 2)), np.zeros(count, bool)
    reference = int(np.argmin(np.abs(landmarks[:, CHIN] - np.median(landmarks[:, CHIN], 0)).sum(-1)))
    template, alpha = _load(*pictures[reference])
    mask = cv2.dilate((alpha > 0.5).astype(np.uint8), np.ones((9, 9), np.uint8))
    mask[: max(top, 0)] = 0
    if mask.mean() < _MIN_AREA:
        return BodyMotion(shifts, 0.0)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    still = np.eye(2, 3, dtype=np.float32)
    warp = still
    for index in tqdm(range(count), desc="body", unit="frame", disable=not progress):
        picture, _ = _load(*pictures[index])
        for start in (warp, still):  # from the frame before; failing that, from nowhere
            try:
                correlation, found = cv2.findTransformECC(
                    template, picture, start.copy(), cv2.MOTION_TRANSLATION, criteria, mask, 5
                )
            except cv2.error:  # does not converge
                continue
            if correlation >= _MIN_CORRELATION and np.abs(found[:, 2]).max() <= _MAX_SHIFT * _WORK_SIZE:
                good[index], shifts[index], warp = True, found[:, 2] / scale, found
                break
    if good.mean() < _MIN_FOLLOWED or not (good & calm).any():
        return BodyMotion(np.zeros((count, 2)), float(good.mean()))
    known = np.flatnonzero(good)
    shifts = np.stack([np.interp(np.arange(count), known, shifts[known, axis]) for axis in (0, 1)], -1)
    return BodyMotion(shifts - shifts[calm & good].mean(0), float(good.mean()))


def _load(image: Path, matte: Path) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture over a middle grey, and alpha, both [S, S] float32 in [0, 1]."""
    import cv2
    import numpy as np

    def small(path: Path) -> np.ndarray:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        return cv2.resize(pixels, (_WORK_SIZE, _WORK_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    alpha = small(matte)
    return small(image) * alpha + 0.5 * (1 - alpha), alpha
