"""Crops and mattes of still pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.preprocess.crop import Crop
from likeness.preprocess.portraits.reading import Still
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from likeness.preprocess.matting import MattingModel

_SAME_CUT = 0.85  # intersection over union at which alpha and matte show the same person
_MATTE_COVERS = 0.5
_FACE_COVERS = 0.88  # on profiles the detector sees a face whose further half lies before the nose
_FAINT = 24  # of 255: up to here the parts of a matte do not hang together


@dataclasses.dataclass(frozen=True)
class MatteChoice:
    """What makes mattes: a name in MATTING or auto, where it runs, and where its weights may come
    from."""

    name: str = "auto"
    device: str = "cpu"
    weights: Path | None = None
    download: bool = True


def write_pictures(
    root: Path,
    stills: Sequence[Still],
    crops: Sequence[Crop],
    landmarks: np.ndarray,
    size: int,
    choice: MatteChoice,
) -> dict[str, str]:
    """Writes the crops of pictures, resized to ``size``, and their mattes; returns what made these,
    for the report.

    landmarks: [T, 478, 2] pixels of the crops. Raises UserError where a matte does not show the
        face.
    """
    import numpy as np

    from likeness.preprocess import matting
    from likeness.preprocess import weights as published
    from likeness.preprocess.frames import FrameFiles, write_pair

    before = published.offline
    published.offline = before or not choice.download
    try:
        matter, note = matting.choose(choice.name, choice.device, choice.weights)
    finally:
        published.offline = before
    files, name = FrameFiles(root), matter.name
    for position, (still, crop, points) in enumerate(zip(stills, crops, landmarks)):
        image = crop.apply(still.rgb, size)
        alpha = _matte(
            matter, image, points, None if still.alpha is None else crop.apply(still.alpha, size)
        )
        x, y = np.clip(points.astype(int), 0, size - 1).T
        covered = float((alpha[y, x] > 127).mean())
        if covered < _MATTE_COVERS:
            raise UserError(
                f"{still.path}: the matte does not show the face; give a picture before a plainer background, one cut "
                "out with transparency, or another --matting"
            )
        if covered < _FACE_COVERS:
            raise UserError(
                f"{still.path}: {100 * (1 - covered):.0f} % of the face's points lie on the background: it is seen too "
                "much from the side, or the matte cuts it; give a picture from the front or half from the side"
            )
        write_pair(files, position, image, alpha)
    return {"name": name, "note": note}


def _matte(
    matter: MattingModel, image: np.ndarray, points: np.ndarray, alpha: np.ndarray | None
) -> np.ndarray:
    """uint8 [H, W]. A picture's own alpha bounds the matte, and is the matte where it cuts out the
    same person."""
    import numpy as np

    if alpha is None:
        return _connected(next(iter(matter.mattes([image]))), points)
    cover = alpha[..., None].astype(np.float32) / 255
    grey = (image * cover + 200 * (1 - cover)).astype(np.uint8)
    matte = next(iter(matter.mattes([grey])))
    both, either = ((matte > 127) & (alpha > 127)).sum(), ((matte > 127) | (alpha > 127)).sum()
    if both > _SAME_CUT * either:
        return alpha
    return _connected((matte.astype(np.uint16) * alpha // 255).astype(np.uint8), points)


def _connected(matte: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The part of a matte [H, W] that hangs together with the face at landmarks [478, 2]; all where
    none does."""
    import numpy as np

    from likeness.preprocess.video import import_cv2

    cv2 = import_cv2()
    _, labels = cv2.connectedComponents((matte > _FAINT).astype(np.uint8))
    x, y = np.clip(points.astype(int), 0, len(matte) - 1).T
    counts = np.bincount(labels[y, x], minlength=labels.max() + 1)
    counts[0] = 0
    if counts.max() == 0:
        return matte
    kept = labels == counts.argmax()
    # its faint border goes with it
    near = cv2.dilate(kept.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(near, matte, 0).astype(np.uint8)
