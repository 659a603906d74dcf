"""Alpha mattes of a person in a video: MATTING lists the ways to make them, ``choose`` picks
one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from likeness.preprocess import weights
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger(__name__)


class MattingModel(Protocol):
    """Makes mattes. name: key in MATTING. look_ahead: frames read beyond the one whose matte comes
    next, at most."""

    name: str
    look_ahead: int

    def mattes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Alpha uint8 [H, W] of consecutive frames uint8 RGB [H, W, 3]: one each, in order, as they
        are read."""


def _selfie(
    device: str = "cpu", weights_folder: Path | None = None, download: bool = True
) -> MattingModel:
    import torch

    from likeness.preprocess.matting.selfie import SelfieMatter

    # It runs on the CPU whatever the device; its network is in MediaPipe's wheel.
    return SelfieMatter(threads=torch.get_num_threads())


def _modnet(
    device: str = "cpu", weights_folder: Path | None = None, download: bool = True
) -> MattingModel:
    from likeness.preprocess.matting.modnet import MODNetMatter, load_modnet

    path = weights.find("modnet", weights_folder, download)
    if path is None:
        entry = weights.WEIGHTS["modnet"]
        raise UserError(
            f"matting modnet: {entry.filename} is missing and could not be downloaded; get it from {entry.urls[0]} and "
            f"give its folder with --weights, or use --matting selfie"
        )
    return MODNetMatter(load_modnet(path), device)


MATTING: dict[str, Callable[..., MattingModel]] = {"selfie": _selfie, "modnet": _modnet}
"""Ways to make mattes: name -> factory(device, weights_folder, download)."""


def resolve(name: str = "auto", weights_folder: Path | None = None, download: bool = True) -> str:
    """The key in MATTING that ``name`` stands for.

    ``auto`` is MODNet where its weights are (in ``weights_folder``, in the cache, or by one
    download if allowed), else the segmentation in MediaPipe's wheel. Raises UserError for an
    unknown name.
    """
    if name == "auto":
        return (
            "modnet" if weights.find("modnet", weights_folder, download) is not None else "selfie"
        )
    if name not in MATTING:
        raise UserError(f"matting: expected one of auto, {', '.join(MATTING)}; got {name!r}")
    return name


def choose(
    name: str = "auto",
    device: str = "cpu",
    weights_folder: Path | None = None,
    download: bool = True,
) -> tuple[MattingModel, str]:
    """A matter and one line that says which it is and why; the line is logged, too.

    Raises UserError for an unknown name and for weights that were asked for by name and cannot be
    had.
    """
    resolved = resolve(name, weights_folder, download)
    if name != "auto":
        note = f"mattes by {resolved}, as asked for"
    elif resolved == "modnet":
        note = "mattes by MODNet: its weights are here"
    else:
        note = (
            "mattes by MediaPipe's selfie segmentation, refined: the weights of MODNet are not here"
        )
    _log.info(note)
    return MATTING[resolved](device, weights_folder, download), note


def create(
    name: str = "auto",
    weights_folder: Path | None = None,
    download: bool = True,
    device: str = "cpu",
) -> MattingModel:
    """The matter alone: see ``choose``."""
    return choose(name, device, weights_folder, download)[0]
