"""Alpha mattes of a person in a video: MATTING lists the models that make them, ``choose`` picks
one.

A matting model is one module with a function ``load`` and one line in ``MATTING``.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable

from likeness.preprocess import weights
from likeness.preprocess.matting.base import MattingChoice, MattingModel
from likeness.scene.errors import UserError

_log = logging.getLogger(__name__)


def _module(name: str) -> Callable[[MattingChoice], MattingModel]:
    """``load`` of a module of this folder, which is imported only when it is called."""
    return lambda choice: importlib.import_module(f"{__name__}.{name}").load(choice)


MATTING: dict[str, Callable[[MattingChoice], MattingModel]] = {
    "selfie": _module("selfie"),
    "modnet": _module("modnet"),
}
NAMES = ("auto", *MATTING)
"""What MattingChoice.name may be."""


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
        raise UserError(f"matting: expected one of {', '.join(NAMES)}; got {name!r}")
    _log.info(note)
    return MATTING[name](choice), note
