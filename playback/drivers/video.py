"""Another person's video as a driver: preprocessed like a subject's own, and cached like it.

Preprocessing (landmark detector, tracker, codecs), which playing an avatar does not need, is
imported when a video is loaded (tests/test_imports.py holds this).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.playback.drivers.base import DriverOptions, Recording
from likeness.playback.drivers.capture import load_capture
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle

CACHE = Path("runs") / ".captures"
"""Where ``likeness fit``, too, keeps the captures of videos unless told otherwise."""
_SIZE = 512
_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"),
    *(".mpg", ".mpeg", ".3gp", ".ts", ".wmv"),
)


def recognizes(path: Path) -> bool:
    """By the first bytes of the containers, or by the name, so that a damaged video gets the video
    reader's message."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(16)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")
        or head[:4] in (b"\x1aE\xdf\xa3", b"\0\0\1\xba")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or path.suffix.lower() in _SUFFIXES
    )


def load(source: str, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """Tracks a video by landmarks, or finds the capture made of it before.

    Raises UserError for what is not a video, or shows no face, and for an avatar of a head model
    that is not known here.
    """
    from likeness.head_models import HEAD_MODELS
    from likeness.preprocess.pipeline import PreprocessConfig, find_or_build
    from likeness.preprocess.selection import SelectionConfig

    if bundle.head_model not in HEAD_MODELS:
        raise UserError(
            f"{source}: a video cannot drive an avatar of head model {bundle.head_model!r}; known: "
            f"{', '.join(HEAD_MODELS)}; drive it with a run, a capture or states of that head model"
        )
    # The selfie segmentation: the images are only shown beside the avatar's.
    settings = PreprocessConfig(
        size=_SIZE,
        matting="selfie",
        head_model=bundle.head_model,
        tracking="landmarks",
        selection=SelectionConfig(variety=False),
    )
    capture = find_or_build(
        Path(source),
        options.cache or CACHE,
        settings,
        device=options.device,
        weights=options.weights,
        download=options.download,
        progress=options.progress,
        purpose="driver",
    )
    return dataclasses.replace(load_capture(capture.root, bundle, options), name=Path(source).stem)
