"""Head models: deformable head meshes that the tracker fits and that avatars are initialised from.

A head model is one module with a function ``load`` and one line in ``HEAD_MODELS``; its data are
read when it is called. The types are in ``likeness.head_models.base``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel, ShapedHead
    from likeness.scene.capture import Capture


def _module(name: str) -> Callable[[], HeadModel]:
    """``load`` of a module of this folder, which is imported only when it is called."""
    return lambda: importlib.import_module(f"{__name__}.{name}").load()


HEAD_MODELS: dict[str, Callable[[], HeadModel]] = {"anny": _module("anny")}


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
