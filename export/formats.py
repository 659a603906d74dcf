"""The formats that avatars are exported to: one file and one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likeness.export.base import Exporter, ExportOptions
from likeness.export.playback_bundle import BUNDLE
from likeness.export.ply import PLY
from likeness.export.spz import SPZ
from likeness.export.web import WEB
from likeness.fitting.bundle import AvatarBundle
from likeness.scene.errors import UserError, hint
from likeness.scene.head_state import HeadState

EXPORTERS: dict[str, Exporter] = {"ply": PLY, "spz": SPZ, "bundle": BUNDLE, "web": WEB}


def exporter(format: str) -> Exporter:
    """The exporter of a name. Raises UserError, which names the nearest, for an unknown one."""
    if format not in EXPORTERS:
        raise UserError(f"format {format}: unknown; {hint(format, tuple(EXPORTERS))}")
    return EXPORTERS[format]


def export_avatar(
    bundle: AvatarBundle,
    out: Path,
    format: str,
    states: HeadState | None = None,
    options: ExportOptions = ExportOptions(),
) -> dict[str, Any]:
    """Writes an avatar in a format of EXPORTERS to ``out``, which must not exist yet.

    states: [T], one unless ``options.moving``; None: the neutral head. Returns what Exporter.write
    does. Raises UserError for what the format does not read.
    """
    chosen = exporter(format)
    given = {name for name, value in vars(options).items() if value is not None}
    given = given - {"moving", "progress"} | ({"states"} if states is not None else set())
    for name in sorted(given - chosen.takes):
        raise UserError(f"{name}: the format {format} does not read it; leave it out")
    if states is None:
        states = bundle.default_state.map(lambda tensor: tensor[None])
    return chosen.write(bundle, states, Path(out), options)
