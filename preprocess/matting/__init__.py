"""Alpha mattes of a person in a video: MATTING lists the models that make them, ``choose`` picks
one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from likeness.preprocess import weights
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger(__name__)


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


def _selfie(choice: MattingChoice) -> MattingModel:
    import torch

    from likeness.preprocess.matting.selfie import SelfieMatting

    # It runs on the CPU whatever the device; its network is in MediaPipe's wheel.
    return SelfieMatting(threads=torch.get_num_threads())


def _modnet(choice: MattingChoice) -> MattingModel:
    from likeness.preprocess.matting.modnet import MODNetMatting, load_modnet

    path = weights.find("modnet", choice.weights, choice.download)
    if path is None:
        entry = weights.WEIGHTS["modnet"]
        raise UserError(
            f"matting modnet: {entry.filename} is missing and could not be downloaded; get it from "
            f"{entry.urls[0]} and give its folder with --weights, or use --matting selfie"
        )
    return MODNetMatting(load_modnet(path), choice.device)


MATTING: dict[str, Callable[[MattingChoice], MattingModel]] = {"selfie": _selfie, "modnet": _modnet}
"""Matting models: name -> factory."""


def choose(choice: MattingChoice = MattingChoice()) -> tuple[MattingModel, str]:
    """A matting model, and one line that says which it is and why; the line is logged, too.

    Raises UserError for an unknown name and for weights that were asked for by name and cannot be
    had.
    """
    name = choice.name
    if name == "auto":
        present = weights.find("modnet", choice.weights, choice.download) is not None
        name = "modnet" if present else "selfie"
        note = (
            "mattes by MODNet: its weights are here"
            if present
            else "mattes by MediaPipe's selfie segmentation, refined: the weights of MODNet are "
            "not here"
        )
    elif name in MATTING:
        note = f"mattes by {name}, as asked for"
    else:
        raise UserError(f"matting: expected one of auto, {', '.join(MATTING)}; got {name!r}")
    _log.info(note)
    return MATTING[name](choice), note
