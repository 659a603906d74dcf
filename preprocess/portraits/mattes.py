"""Crops and mattes of still images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likeness.preprocess.frames import FrameFiles, shown_share, write_pair
from likeness.preprocess.matting import MattingChoice, choose
from likeness.preprocess.video import import_cv2
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.preprocess.matting import MattingModel
    from likeness.preprocess.portraits.faces import Portrait

_SAME_CUT = 0.85  # intersection over union at which alpha and matte show the same person
_MATTE_COVERS = 0.5
_FACE_COVERS = 0.88  # on profiles the detector sees a face whose further half lies before the nose
_FAINT = 24  # of 255: up to here the parts of a matte do not hang together


def write_images(
    root: Path, portraits: Sequence[Portrait], choice: MattingChoice
) -> dict[str, str]:
    """Writes the crops of portraits and their mattes; returns what made these, for the report.

    Raises UserError where a matte does not show the face.
    """
    matting, note = choose(choice)
    files = FrameFiles(root)
    for position, portrait in enumerate(portraits):
        still, framing, points = portrait.still, portrait.framing, portrait.landmarks
        image = framing.apply(still.rgb)
        alpha = None if still.alpha is None else framing.apply(still.alpha)
        alpha = _matte(matting, image, points, alpha)
        covered = shown_share(alpha, points)
        if covered < _MATTE_COVERS:
            raise UserError(
                f"{still.path}: the matte does not show the face; give an image before a plainer "
                "background, one cut out with transparency, or another --matting"
            )
        if covered < _FACE_COVERS:
            raise UserError(
                f"{still.path}: {100 * (1 - covered):.0f} % of the face's points lie on the "
                "background: it is seen too much from the side, or the matte cuts it; give an "
                "image from the front or half from the side"
            )
        write_pair(files, position, image, alpha)
    return {"name": matting.name, "note": note}


def _matte(
    matting: MattingModel, image: np.ndarray, points: np.ndarray, alpha: np.ndarray | None
) -> np.ndarray:
    """uint8 [H, W]. An image's own alpha bounds the matte, and is the matte where it cuts out the
    same person."""
    if alpha is None:
        return _connected(next(iter(matting.mattes([image]))), points)
    cover = alpha[..., None].astype(np.float32) / 255
    grey = (image * cover + 200 * (1 - cover)).astype(np.uint8)
    matte = next(iter(matting.mattes([grey])))
    both, either = ((matte > 127) & (alpha > 127)).sum(), ((matte > 127) | (alpha > 127)).sum()
    if both > _SAME_CUT * either:
        return alpha
    return _connected((matte.astype(np.uint16) * alpha // 255).astype(np.uint8), points)


def _connected(matte: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The part of a matte [H, W] that hangs together with the face at landmarks [478, 2]; all where
    none does."""
    cv2 = import_cv2()
    _, labels = cv2.connectedComponents((matte > _FAINT).astype(np.uint8))
    x, y = np.clip(points.astype(int), 0, len(matte) - 1).T
    counts = np.bincount(labels[y, x], minlength=labels.max() + 1)
    counts[0] = 0
    if counts.max() == 0:
        return matte
    connected = labels == counts.argmax()
    # its faint border goes with it
    near = cv2.dilate(connected.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(near, matte, 0).astype(np.uint8)
