"""Head models: deformable head meshes that the tracker fits and that avatars are initialised from.

A variant is one file and one line in ``HEAD_MODELS``; the factories load their data when they are
called. The types are in ``likeness.head_models.base``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel


def _anny() -> HeadModel:
    from likeness.head_models.anny import load

    return load()


HEAD_MODELS: dict[str, Callable[[], HeadModel]] = {"anny": _anny}
