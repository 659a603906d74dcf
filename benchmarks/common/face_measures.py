"""What a face does in images, by one detector on truth, driver and avatar alike; and splits of a
capture by it. The measures of benchmarks.transfer and benchmarks.unseen.

``features`` are distances in units of the face's own size, so that they need no common camera.
Landmarks of a clip are brought to the face's own frame first (``stabilised``): in each image by the
affine map (least squares) that takes eye corners, bridge and base of the nose to their mean shape
over the clip. That removes place, size and rotation of the head, and to first order what a turned
or nodding head shortens. Origin: between the outer eye corners; x to the right of the image, y
down; unit: their distance. Images that have nothing to do with each other have no mean shape: their
faces are only put upright (``upright``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likeness.head_models.landmarks import EYE_CORNERS, EYE_WIDTHS, LID_PAIRS

_Points = NDArray[Any]
ANCHORS = (33, 133, 362, 263, 168, 6, 2, 98, 327)
"""Corners of the eyes, bridge of the nose, its base and wings: they hardly move by expressions."""
LIPS, CORNERS = (13, 14), (61, 291)
BROWS = (105, 66, 334, 296)
LEFT_IRIS, RIGHT_IRIS = 473, 468

# Per feature: the percentiles that its range lies between (a blink lasts a few frames only), and
# the smallest range of a driver that is told from the detector's noise, in the feature's unit.
FEATURES: dict[str, tuple[tuple[float, float], float]] = {
    "lips": ((5, 95), 0.04),
    "width": ((5, 95), 0.06),
    "lids": ((1, 95), 0.3),
    "brows": ((5, 95), 0.03),
    "gaze": ((5, 95), 0.03),
}
OPEN_EYES = 95
"""The percentile of the lids' opening in a clip that is the person's open eye."""
CLOSED_LIPS, AJAR_LIPS = 0.015, 0.03
"""Openings up to the first are closed lips, from the second on lips that are seen to be apart: 1.5
and 3 mm on most faces."""
OPEN = 0.05
"""Lip openings above which a mouth is open."""
SPLITS = ("mouth", "lids", "smile", "yaw")
TRAIN_SHARE, TEST_SHARE = 0.5, 0.1


def features(face: _Points) -> dict[str, _Points]:
    """Each of FEATURES [T] of faces [T, 478, 2], stabilised or upright.

    lips: opening between the inner rims. width: of the mouth. lids: opening of the eyes over their
    width, the mean of both. brows: height over the eyes. gaze: place of the irises between the
    corners of their eyes, to the right. All but the lids' are in distances of the outer eye
    corners.
    """

    def distance(pair: Sequence[int]) -> _Points:
        return np.linalg.norm(face[:, pair[0]] - face[:, pair[1]], axis=-1)

    irises = {"left": LEFT_IRIS, "right": RIGHT_IRIS}
    lids = [
        distance(LID_PAIRS[eye][0]) / np.maximum(distance(pair), 1e-6)
        for eye, pair in EYE_WIDTHS.items()
    ]
    gaze = [face[:, irises[eye], 0] - face[:, pair, 0].mean(1) for eye, pair in EYE_WIDTHS.items()]
    return {
        "lips": distance(LIPS),
        "width": distance(CORNERS),
        "lids": np.mean(lids, 0),
        "brows": -face[:, BROWS, 1].mean(1),
        "gaze": np.mean(gaze, 0),
    }


def stabilised(points: _Points) -> tuple[_Points, _Points]:
    """Landmarks [T, 478, 2] in pixels in the face's own frame, and the affine maps [T, 2, 3] that
    took them there."""
    shapes = upright(points)[:, ANCHORS]
    mean = shapes.mean(0)
    ones = np.ones((*points.shape[:2], 1))
    homogeneous = np.concatenate([points, ones], -1)
    anchors = homogeneous[:, ANCHORS]
    maps = np.stack([np.linalg.lstsq(frame, mean, rcond=None)[0].T for frame in anchors])
    return np.einsum("tij,tnj->tni", maps, homogeneous), maps


def upright(points: _Points) -> _Points:
    """Landmarks [T, 478, 2], each face moved by the similarity transform that brings its outer eye
    corners to (-0.5, 0) and (0.5, 0)."""
    eyes = points[:, EYE_CORNERS]
    along = eyes[:, 1] - eyes[:, 0]
    scale = np.maximum((along**2).sum(-1), 1e-12)[:, None, None]
    centred = points - eyes.mean(1)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    axes = np.stack([along, across], -1)
    return centred @ axes / scale


def transferred(
    driver: _Points, avatar: _Points, own: _Points
) -> dict[str, dict[str, float] | None]:
    """What arrives of each feature, by stabilised landmarks [T, 478, 2] of the same moments.

    range: that of the avatar over that of the driver. correlation: Pearson's. None where the driver
    hardly moves. Lids are counted in open eyes: narrow ones close as far as wide ones, over a
    shorter way. own: the avatar's person as recorded, [T', 478, 2], whose open eyes those are.
    """
    result: dict[str, dict[str, float] | None] = {}
    theirs, ours, recorded = features(driver), features(avatar), features(own)
    theirs["lids"] = theirs["lids"] / np.percentile(theirs["lids"], OPEN_EYES)
    ours["lids"] = ours["lids"] / np.percentile(recorded["lids"], OPEN_EYES)
    for name, (percentiles, smallest) in FEATURES.items():
        ranges = [float(np.ptp(np.percentile(x[name], percentiles))) for x in (theirs, ours)]
        if ranges[0] < smallest:
            result[name] = None
            continue
        correlation = float(np.corrcoef(theirs[name], ours[name])[0, 1])
        result[name] = {"range": ranges[1] / ranges[0], "correlation": correlation}
    return result


def lips_closed(driver: _Points, avatar: _Points) -> float | None:
    """Of the moments in which the driver's lips are closed, the part in which the avatar's are not
    seen to be apart; None where there are fewer than three."""
    theirs, ours = (features(face)["lips"] for face in (driver, avatar))
    closed = theirs <= CLOSED_LIPS
    return None if closed.sum() < 3 else float((ours[closed] < AJAR_LIPS).mean())


def calm(driver: _Points) -> _Points:
    """[T - 2] whether the face [T, 478, 2] moves less around a moment than in half of the others:
    what trembles there is no expression."""
    steps = np.pad(np.abs(np.diff(driver, axis=0)).mean((1, 2)), 1, mode="edge")
    moved = np.lib.stride_tricks.sliding_window_view(steps, 4).mean(-1)
    return moved <= np.median(moved)


def flicker(driver: _Points, avatar: _Points, when: _Points) -> float:
    """Root mean square of the second difference in time of the avatar's sequence [T, ...] over that
    of the driver's: what trembles from frame to frame, at the moments ``when`` [T - 2]."""
    energy = [float((np.diff(x, 2, axis=0)[when] ** 2).mean()) for x in (driver, avatar)]
    return (energy[1] / max(energy[0], 1e-20)) ** 0.5


def at_rest(face: _Points) -> _Points:
    """The shape [478, 2] of stabilised landmarks [T, 478, 2] at rest: the median over the quarter
    of the frames with the lips most closed."""
    lips = features(face)["lips"]
    return np.median(face[np.argsort(lips)[: max(1, len(lips) // 4)]], axis=0)


def identity_distance(own: _Points, driver: _Points, avatar: _Points) -> float:
    """How far the driven face at rest is from the avatar's own one, over how far the driver's is
    from it (stabilised landmarks): 0 keeps the person's shape, 1 has become as different as the
    driver."""
    one, other, driven = (at_rest(face) for face in (own, driver, avatar))
    away = np.linalg.norm(other - one, axis=-1).mean()
    return float(np.linalg.norm(driven - one, axis=-1).mean() / max(away, 1e-9))


def crops(images: Sequence[_Points], maps: _Points, side: int = 96) -> _Points:
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


@dataclasses.dataclass(frozen=True)
class Openings:
    """Of one face. lips, width: distance of the inner lips and of the mouth's corners, in distances
    of the outer eye corners. lids: mean distance of the lids in widths of the eye."""

    lips: float
    width: float
    lids: float


def openings(points: _Points) -> Openings:
    """Of landmarks [478, 2] in pixels."""
    found = features(upright(points[None]))
    return Openings(*(float(found[name][0]) for name in ("lips", "width", "lids")))


def detected(images: Iterable[NDArray[Any]]) -> list[Openings | None]:
    """Of images [H, W, 3] uint8 that have nothing to do with each other; None where the detector
    finds no face."""
    from likeness.preprocess.landmarks import FaceMeshDetector

    with FaceMeshDetector(1, static=True) as detector:
        faces = [detector(image) for image in images]
    return [openings(found[0]) if len(found) else None for found in faces]


def ratios(
    truth: Sequence[Openings | None], avatar: Sequence[Openings | None]
) -> dict[str, float | None]:
    """What an avatar's pictures show of what the truth's do, frame by frame.

    lips: sum of the lip openings over the truth's, of frames whose mouth is open; width: of the
    mouths' widths over all frames; gap: mean lip opening where the truth's mouth is closed; lids:
    mean absolute difference of the lids' openings. None where nothing is to be measured.
    missed: share of the truth's faces that are not found in the avatar's pictures.
    """
    pairs = [(t, a) for t, a in zip(truth, avatar, strict=True) if t is not None]
    found = [(t, a) for t, a in pairs if a is not None]
    opened = [(t.lips, a.lips) for t, a in found if t.lips > OPEN]
    closed = [a.lips for t, a in found if t.lips <= OPEN]
    return {
        "lips": _ratio(opened),
        "width": _ratio([(t.width, a.width) for t, a in found]),
        "gap": float(np.mean(closed)) if closed else None,
        "lids": float(np.mean([abs(a.lids - t.lids) for t, a in found])) if found else None,
        "missed": 1 - len(found) / len(pairs) if pairs else None,
    }


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    return float(sum(a for _, a in pairs) / sum(t for t, _ in pairs)) if pairs else None


def split_scores(split: str, landmarks: _Points, rotations: _Points) -> _Points:
    """How far a frame is from calm [T], by landmarks [T, 478, 2] and the heads' rotations
    [T, 3, 3]: a split is of the lowest against the highest.

    mouth: how open it is; lids: how closed; smile: how wide the mouth; yaw: how far the head is
    turned from where it mostly looks.
    """
    seen = features(upright(landmarks))
    ahead = rotations[:, :, 2]
    yaw = np.arctan2(ahead[:, 0], -ahead[:, 2])
    scores: dict[str, Callable[[], _Points]] = {
        "mouth": lambda: seen["lips"],
        "lids": lambda: -seen["lids"],
        "smile": lambda: seen["width"],
        "yaw": lambda: abs(yaw - np.median(yaw)),
    }
    return scores[split]()


def split_by(scores: _Points, frames: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and test frames of some frames, whose scores [T] are in the same order: the half
    with the lowest scores, and the tenth with the highest; each in the order of ``frames``."""
    order = np.argsort(scores, kind="stable")
    train = sorted(order[: max(1, round(TRAIN_SHARE * len(order)))])
    test = sorted(order[-max(1, round(TEST_SHARE * len(order))) :])
    return tuple(frames[k] for k in train), tuple(frames[k] for k in test)
