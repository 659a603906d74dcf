"""Another person's video as a driver: preprocessed like a subject's own, and kept like it.

This module needs ``preprocess`` (landmark detector, tracker, codecs), which playing an avatar does
not: it is imported when a video is to drive, never before (tests/test_imports.py holds this).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.drivers.base import DriverOptions, Recording
from likeness.playback.drivers.capture import load_capture
from likeness.scene.errors import UserError

CACHE = Path("runs") / ".captures"
"""Where fit_subject.py, too, keeps the captures of videos unless told otherwise."""
_SIZE = 512


def load(path: Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """Tracks a video by landmarks, or finds the capture made of it before.

    Raises UserError for what is not a video, or shows no face, or another head model than the
    avatar's would be needed.
    """
    from likeness.head_models import HEAD_MODELS
    from likeness.preprocess.pipeline import PreprocessConfig, find_or_build

    if bundle.head_model not in HEAD_MODELS:
        raise UserError(
            f"{path}: a video cannot drive an avatar of head model {bundle.head_model!r}; known: "
            f"{', '.join(HEAD_MODELS)}; drive it with a run, a capture or states of that head model"
        )
    # The selfie segmentation: the pictures are only shown beside the avatar's.
    settings = PreprocessConfig(
        size=_SIZE, matting="selfie", head_model=bundle.head_model, tracking="landmarks"
    )
    capture = find_or_build(
        Path(path),
        options.cache or CACHE,
        settings,
        device=options.device,
        weights=options.weights,
        download=options.download,
        progress=options.progress,
        purpose="driver",
    )
    return dataclasses.replace(load_capture(capture.root, bundle, options), name=Path(path).stem)
