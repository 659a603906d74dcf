"""What a preset says though it would hold without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from likeness.scene.config_files import CONFIGS, apply, fields, layers


def redundant_keys(preset: str | Path, cls: type, folder: Path = CONFIGS) -> list[str]:
    """Keys of a preset that only repeat what it starts from (a preset should hold what differs)."""
    base = cls()
    *before, (_, changes) = layers(preset, folder)
    for path, inherited in before:
        base = apply(base, inherited, str(path))
    loaded = apply(base, changes, "preset")
    known = {field.key for field in fields(cls)}
    repeated = [key for key in _leaves(changes) if key in known]
    return [key for key in repeated if attrgetter(key)(loaded) == attrgetter(key)(base)]


def _leaves(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
