"""What an exporter is: one format, and what a person may ask of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.head_state import HeadState

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What a person may ask of a format; None leaves the choice to it."""

    moving: bool = False
    """The states follow each other in time: a folder of numbered files instead of one file."""
    axes: str | None = None
    """A name in posing.AXES."""
    anchor: str | None = None
    """A name in posing.ANCHORS."""
    spz_version: int | None = None
    """2 or 3."""
    exact: bool | None = None
    """The avatar itself, not a distilled one."""
    codes: int | None = None
    """Codes of the distilled avatar."""
    progress: bool = False
    """Shows bars."""


@dataclasses.dataclass(frozen=True)
class Exporter:
    """One format.

    write: writes an avatar at states [T] (those that read them) to a file or folder that is not
        there yet, whole or not at all. Returns facts: ``bytes``, ``psnr`` in dB of what was written
        against the avatar's own images (None where it is not measured; without their screen
        refiner), and more of its own.
    name: of the file or folder by default.
    takes: the fields of ExportOptions that it reads, and ``states`` if it reads those.
    """

    write: Callable[[AvatarBundle, HeadState, Path, ExportOptions], dict[str, Any]]
    name: str
    takes: frozenset[str]


def without_refiner(bundle: AvatarBundle, format: str) -> tuple[AvatarBundle, dict[str, Any]]:
    """The bundle without its screen refiner for a format that cannot run it, and the fact that says
    so; warns where there was one."""
    if bundle.refinement is None:
        return bundle, {}
    _log.warning(
        "the screen refiner is left out: %s cannot run it; "
        "what is written looks as likeness render --coarse shows",
        format,
    )
    return bundle.coarse(), {"refiner": "left out"}
