"""What a matting model is, and what it may use."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

SURVEYED = 40
"""Frames, spread evenly over a clip, that a SurveyingModel is shown."""


@dataclasses.dataclass(frozen=True)
class MattingChoice:
    """Which matting model, and what it may use."""

    name: str = "auto"
    """A name in MATTING; auto: MODNet where its weights can be had, else the segmentation in
    MediaPipe's wheel."""
    device: str = "cpu"
    """Where a network runs."""
    weights: Path | None = None
    """The user's folder of weights."""
    download: bool = True
    """Whether weights may be downloaded."""


class MattingModel(Protocol):
    """Makes mattes. name: key in MATTING. look_ahead: frames read beyond the one whose matte comes
    next, at most."""

    name: str
    look_ahead: int

    def mattes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Alpha uint8 [H, W] of consecutive frames uint8 RGB [H, W, 3]: one each, in order, as they
        are read."""
        ...


@runtime_checkable
class SurveyingModel(MattingModel, Protocol):
    """A model that wants to see the clip before its mattes are asked for."""

    def survey(self, frames: Iterable[np.ndarray]) -> None:
        """Looks at frames uint8 RGB [H, W, 3] that are spread over the clip whose mattes come
        next."""
        ...
