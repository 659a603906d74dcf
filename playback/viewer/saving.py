"""What the viewer writes: bundles with another neutral and other gains, and screenshots."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.files import new_folder


def save_tuned(bundle: AvatarBundle, tuning: ExpressionTuning, parent: Path, name: str) -> Path:
    """Writes the avatar with its tuning as a new bundle ``parent / name``, whole or not at all;
    nothing is overwritten.

    Raises UserError when the name is not a plain one or is taken, or nothing can be written there.
    """
    name = name.strip()
    if (
        not name
        or name != os.path.basename(name)
        or name.startswith(".")
        or not name.isprintable()
        or "\\" in name
    ):
        raise UserError(
            f"{name!r}: not a name for a folder; give a plain one, such as bundle-tuned"
        )
    folder = parent / name
    if folder.exists():
        raise UserError(f"{folder}: exists already and is not overwritten; choose another name")
    with new_folder(folder) as partial:
        dataclasses.replace(bundle, tuning=tuning).save(partial)
    return folder


def png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3] as a PNG file."""
    import cv2

    _, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    return data.tobytes()
