"""How far mouths and eyes are open in images, by one detector on truth and avatar alike; and splits
of a capture by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likeness.head_models.landmarks import EYE_CORNERS, EYE_WIDTHS, LID_PAIRS

_Points = NDArray[Any]
LIPS, CORNERS = (13, 14), (61, 291)
OPEN = 0.05
"""Lip openings (in distances of the outer eye corners) above which a mouth is open."""
SPLITS = ("mouth", "lids", "smile", "yaw")
TRAIN_SHARE, TEST_SHARE = 0.5, 0.1


@dataclasses.dataclass(frozen=True)
class Openings:
    """Of one face. lips, width: distance of the inner lips and of the mouth's corners, in distances
    of the outer eye corners. lids: mean distance of the lids in widths of the eye."""

    lips: float
    width: float
    lids: float


def openings(points: _Points) -> Openings:
    """Of landmarks [478, 2] in pixels."""
    lips, width, lids = (float(value) for value in openings_of(points[None])[0])
    return Openings(lips, width, lids)


def openings_of(points: _Points) -> _Points:
    """Lips, width and lids [T, 3] of landmarks [T, 478, 2]; see ``Openings``."""

    def distance(pair: Sequence[int]) -> _Points:
        return np.linalg.norm(points[:, pair[0]] - points[:, pair[1]], axis=-1)

    unit = np.maximum(distance(EYE_CORNERS), 1e-6)
    lids = [
        distance(LID_PAIRS[eye][0]) / np.maximum(distance(EYE_WIDTHS[eye]), 1e-6)
        for eye in EYE_WIDTHS
    ]
    return np.stack([distance(LIPS) / unit, distance(CORNERS) / unit, np.mean(lids, 0)], 1)


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
    lips, width, lids = openings_of(landmarks).T
    ahead = rotations[:, :, 2]
    yaw = np.arctan2(ahead[:, 0], -ahead[:, 2])
    scores: dict[str, Callable[[], _Points]] = {
        "mouth": lambda: lips,
        "lids": lambda: -lids,
        "smile": lambda: width,
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
