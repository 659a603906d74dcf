"""The formats that avatars are exported to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.head_state import HeadState

LEFT_OUT = "left out"

log = logging.getLogger(__name__)


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
    exact: bool = False
    """The avatar itself, not a distilled one."""
    codes: int | None = None
    """Codes of the distilled avatar."""
    progress: bool = False
    """Shows bars."""


@dataclasses.dataclass(frozen=True)
class Exporter:
    """One format.

    write: writes an avatar at states [T] (those that read them) to a file or folder that is not
        there yet, whole or not
        at all, and returns facts: ``bytes``, ``psnr`` in dB of what was written against the
        avatar's own pictures (None where it is not measured; without their screen refiner), and
        more of its own. A format that cannot run a screen refiner says that it leaves it out.
    name: of the file or folder by default. takes: the options that it reads, ``states`` among them
        if it reads those.
    """

    write: Callable[[AvatarBundle, HeadState, Path, ExportOptions], dict[str, Any]]
    name: str
    takes: frozenset[str]


def _left_out(bundle: AvatarBundle, what: str) -> tuple[AvatarBundle, dict[str, str]]:
    """The bundle without its screen refiner, and the fact that says so; warns where there was
    one."""
    if bundle.refinement is None:
        return bundle, {}
    log.warning(
        "the screen refiner is left out: %s cannot run it; what is written looks as likeness render --coarse shows",
        what,
    )
    return bundle.coarse(), {"refiner": LEFT_OUT}


def _ply(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    from likeness.export.clouds import write_ply_files

    bundle, said = _left_out(bundle, ".ply")
    return write_ply_files(bundle, states, out, options) | said


def _spz(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    from likeness.export.clouds import write_spz_files

    bundle, said = _left_out(bundle, ".spz")
    return write_spz_files(bundle, states, out, options) | said


def _bundle(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    from likeness.export.playback_bundle import write_playback_bundle

    return write_playback_bundle(bundle, out, options)


def _web(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    from likeness.export.web import write_web_page

    bundle, said = _left_out(bundle, "a web page")
    return write_web_page(bundle, out, options, **said) | said


EXPORTERS: dict[str, Exporter] = {
    "ply": Exporter(_ply, "avatar.ply", frozenset({"states", "axes", "anchor"})),
    "spz": Exporter(_spz, "avatar.spz", frozenset({"states", "anchor", "spz_version"})),
    "bundle": Exporter(_bundle, "bundle", frozenset({"exact", "codes"})),
    "web": Exporter(_web, "web", frozenset({"codes"})),
}
"""Formats by name; each imports what it needs when called."""
