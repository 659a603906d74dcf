"""What a face does in a sequence of images, by a detector's landmarks: the measures of
benchmarks.transfer.

Landmarks are brought to the face's own frame first: in each image by the affine map (least squares)
that takes eye corners, bridge and base of the nose to their mean shape over the clip. That removes
place, size and rotation of the head, and to first order what a turned or nodding head shortens.
Origin: between the outer eye corners; x to the right of the image, y down; unit: their distance. So
each face is measured by its own size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from likeness.head_models.landmarks import EYE_CORNERS, EYE_WIDTHS, LID_PAIRS

ANCHORS = (33, 133, 362, 263, 168, 6, 2, 98, 327)
"""Corners of the eyes, bridge of the nose, its base and wings: they hardly move by expressions."""
BROWS = (105, 66, 334, 296)
LEFT_IRIS, RIGHT_IRIS = 473, 468

# Per feature: the percentiles that its range lies between (a blink lasts a few frames only), and
# the smallest range of a driver that is told from the detector's noise, in distances of the eyes.
FEATURES: dict[str, tuple[tuple[float, float], float]] = {
    "lips": ((5, 95), 0.04),
    "width": ((5, 95), 0.06),
    "lids": ((1, 95), 0.04),
    "brows": ((5, 95), 0.03),
    "gaze": ((5, 95), 0.03),
}
CLOSED_LIPS, AJAR_LIPS = 0.015, 0.03
"""Openings up to the first are closed lips, from the second on lips that are seen to be apart: 1.5
and 3 mm on most faces."""


def stabilised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks [T, 478, 2] in pixels in the face's own frame, and the affine maps [T, 2, 3] that
    took them there."""
    shapes = _upright(points[:, ANCHORS], points[:, EYE_CORNERS])
    mean = shapes.mean(0)
    ones = np.ones((*points.shape[:2], 1))
    homogeneous = np.concatenate([points, ones], -1)
    anchors = homogeneous[:, ANCHORS]
    maps = np.stack([np.linalg.lstsq(frame, mean, rcond=None)[0].T for frame in anchors])
    return np.einsum("tij,tnj->tni", maps, homogeneous), maps


def _upright(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Points [T, N, 2] with the outer eye corners [T, 2, 2] at (-0.5, 0) and (0.5, 0)."""
    along = eyes[:, 1] - eyes[:, 0]
    scale = (along**2).sum(-1)[:, None, None]
    centred = points - eyes.mean(1)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    axes = np.stack([along, across], -1)
    return centred @ axes / scale


def features(face: np.ndarray) -> dict[str, np.ndarray]:
    """Each of FEATURES [T] of stabilised landmarks [T, 478, 2].

    lips: opening between the inner rims. width: of the mouth. lids: opening of the eyes, the mean
    of both. brows: height over the eyes. gaze: place of the irises between the corners of their
    eyes, to the right.
    """
    irises = {"left": LEFT_IRIS, "right": RIGHT_IRIS}
    lids = [face[:, low, 1] - face[:, high, 1] for (high, low), *_ in LID_PAIRS.values()]
    gaze = [face[:, irises[eye], 0] - face[:, pair, 0].mean(1) for eye, pair in EYE_WIDTHS.items()]
    return {
        "lips": face[:, 14, 1] - face[:, 13, 1],
        "width": face[:, 291, 0] - face[:, 61, 0],
        "lids": np.mean(lids, 0),
        "brows": -face[:, BROWS, 1].mean(1),
        "gaze": np.mean(gaze, 0),
    }


def transferred(driver: np.ndarray, avatar: np.ndarray) -> dict[str, dict[str, float] | None]:
    """What arrives of each feature, by stabilised landmarks [T, 478, 2] of the same moments.

    range: that of the avatar over that of the driver. correlation: Pearson's. None where the driver
    hardly moves.
    """
    result: dict[str, dict[str, float] | None] = {}
    ours, theirs = features(avatar), features(driver)
    for name, (percentiles, smallest) in FEATURES.items():
        ranges = [float(np.ptp(np.percentile(x[name], percentiles))) for x in (theirs, ours)]
        if ranges[0] < smallest:
            result[name] = None
            continue
        correlation = float(np.corrcoef(theirs[name], ours[name])[0, 1])
        result[name] = {"range": ranges[1] / ranges[0], "correlation": correlation}
    return result


def lips_closed(driver: np.ndarray, avatar: np.ndarray) -> float | None:
    """Of the moments in which the driver's lips are closed, the part in which the avatar's are not
    seen to be apart; None where there are fewer than three."""
    theirs, ours = (features(face)["lips"] for face in (driver, avatar))
    closed = theirs <= CLOSED_LIPS
    return None if closed.sum() < 3 else float((ours[closed] < AJAR_LIPS).mean())


def calm(driver: np.ndarray) -> np.ndarray:
    """[T - 2] whether the face [T, 478, 2] moves less around a moment than in half of the others:
    what trembles there is no expression."""
    steps = np.pad(np.abs(np.diff(driver, axis=0)).mean((1, 2)), 1, mode="edge")
    moved = np.lib.stride_tricks.sliding_window_view(steps, 4).mean(-1)
    return moved <= np.median(moved)


def flicker(driver: np.ndarray, avatar: np.ndarray, when: np.ndarray) -> float:
    """Root mean square of the second difference in time of the avatar's sequence [T, ...] over that
    of the driver's: what trembles from frame to frame, at the moments ``when`` [T - 2]."""
    energy = [float((np.diff(x, 2, axis=0)[when] ** 2).mean()) for x in (driver, avatar)]
    return (energy[1] / max(energy[0], 1e-20)) ** 0.5


def at_rest(face: np.ndarray) -> np.ndarray:
    """The shape [478, 2] of stabilised landmarks [T, 478, 2] at rest: the median over the quarter
    of the frames with the lips most closed."""
    lips = features(face)["lips"]
    return np.median(face[np.argsort(lips)[: max(1, len(lips) // 4)]], axis=0)


def identity_distance(own: np.ndarray, driver: np.ndarray, avatar: np.ndarray) -> float:
    """How far the driven face at rest is from the avatar's own one, over how far the driver's is
    from it (stabilised landmarks): 0 keeps the person's shape, 1 has become as different as the
    driver."""
    one, other, driven = (at_rest(face) for face in (own, driver, avatar))
    away = np.linalg.norm(other - one, axis=-1).mean()
    return float(np.linalg.norm(driven - one, axis=-1).mean() / max(away, 1e-9))


def crops(images: Sequence[np.ndarray], maps: np.ndarray, side: int = 96) -> np.ndarray:
    """The faces [T, side, side] (luminance in [0, 1]) of images [H, W, 3] uint8, in their own
    frame."""
    import cv2

    scale = side / 2.2  # from brow to chin, ear to ear
    placed = np.array([[scale, 0, side / 2], [0, scale, side * 0.35], [0, 0, 1.0]])
    result = []
    for image, frame in zip(images, maps):
        matrix = (placed @ np.vstack([frame, [0, 0, 1.0]]))[:2]
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        result.append(cv2.warpAffine(gray, matrix, (side, side), flags=cv2.INTER_AREA))
    return np.stack(result).astype(np.float32) / 255
