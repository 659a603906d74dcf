"""Head models: deformable head meshes that the tracker fits and that avatars are initialised from.

A variant is one file and one line in ``HEAD_MODELS``; the factories load their data when they are
called. The types are in ``likeness.head_models.base``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel, ShapedHead
    from likeness.scene.capture import Capture


def _anny() -> HeadModel:
    from likeness.head_models.anny import load

    return load()


HEAD_MODELS: dict[str, Callable[[], HeadModel]] = {"anny": _anny}


def shaped_head(capture: Capture) -> ShapedHead:
    """The head of a capture's subject. Raises UserError where its head model, or that model's
    version, is unknown."""
    if capture.head_model not in HEAD_MODELS:
        raise UserError(
            f"{capture.root}: tracked with the head model {capture.head_model!r}, expected one of "
            f"{', '.join(HEAD_MODELS)}; preprocess its video again"
        )
    model = HEAD_MODELS[capture.head_model]()
    if model.expression_names != capture.expression_names:
        raise UserError(
            f"{capture.root}: its expressions are not those of the head model {model.name}; "
            "preprocess its video again"
        )
    return model.shaped(capture.identity)
