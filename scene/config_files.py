"""Configuration: frozen dataclasses in the code, YAML presets that hold what differs, keys set from
the command line.

Works over any nested frozen dataclass whose fields all have defaults and carry a docstring string
under them. Field types may be bool, int, float, str, Path, Literal, Optional, unions of those,
tuples, lists, dicts with string keys, further dataclasses, and any of these with bounds
(``likeness.scene.bounds``). A key is the dotted path of a field: ``densify.start``. Names in a
class's ``RETIRED`` were settings of earlier programs, whose files still say them.
"""

# plain values of YAML are of any type:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from likeness.scene.config_values import (
    RawText,
    convert,
    describe_type,
    field_docs,
    inner_dataclass,
    type_hints,
)
from likeness.scene.errors import UserError
from likeness.scene.reading import read_yaml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_SUFFIXES = (".yaml", ".yml")
_COMMAND_LINE = "--set"
_EXTENDS = "extends"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting, for listings. ``default`` is None for a nested dataclass that is absent by
    default."""

    key: str
    type: str
    default: Any
    doc: str


def defaults(cls: type[T]) -> T:
    """The configuration without any preset."""
    return cls()


def load_preset(
    preset: str | Path | None,
    cls: type[T],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    folder: Path = CONFIGS,
) -> T:
    """The dataclass defaults, changed by a preset and then by overrides.

    preset: the name of a file of ``folder`` without .yaml, or the path of a YAML file (a resolved
    ``config.yaml`` of a run serves too), or None for the defaults. ``extends: NAME`` in a preset
    names one that it starts from.
    overrides: ``{"a.b": value}`` or texts ``"a.b=value"`` in YAML's
    notation, as ``--set`` gives them; the last one of a key wins.
    Raises UserError that names file and key for: an unknown preset or key (with the nearest known
    one), a wrong type, a value that the dataclass refuses.
    """
    config = cls()
    for path, changes in [] if preset is None else layers(preset, folder):
        config = apply(config, changes, str(path))
    for source, key, value in _pairs(overrides):
        config = apply(config, {key: value}, source)
    return config


def presets(folder: Path = CONFIGS) -> list[str]:
    """Names of the presets that ship with the project."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def preset_path(preset: str | Path, folder: Path = CONFIGS) -> Path:
    """The file of a preset. A name is looked up in ``folder``; what ends in .yaml or .yml is a path
    as it stands."""
    if Path(preset).suffix in _SUFFIXES:
        if not Path(preset).is_file():
            raise UserError(
                f"{preset}: no such preset file; give an existing one or one of "
                f"{_listed(presets(folder))}"
            )
        return Path(preset)
    path = folder / f"{preset}.yaml"
    if str(preset) not in presets(folder):
        nearest = difflib.get_close_matches(str(preset), presets(folder), 1, 0.4)
        guess = f"did you mean {nearest[0]}? " if nearest else ""
        known = _listed(presets(folder))
        raise UserError(
            f"unknown preset {preset!r}; {guess}known: {known}, or the path of a .yaml file"
        )
    return path


def layers(preset: str | Path, folder: Path = CONFIGS) -> list[tuple[Path, dict[str, Any]]]:
    """A preset's file and changes, after those of the presets that it extends, the outermost
    first."""
    result: list[tuple[Path, dict[str, Any]]] = []
    path = preset_path(preset, folder)
    while path is not None:
        if path in [known for known, _ in result]:
            raise UserError(f"{path}: extends: leads back to itself; remove one of them")
        changes = read_yaml(path, "settings of a fit")
        base = changes.pop(_EXTENDS, None)
        if base is not None and not isinstance(base, str):
            raise UserError(f"{path}: {_EXTENDS}: expected the name of a preset, got {base!r}")
        result.insert(0, (path, changes))
        path = None if base is None else preset_path(base, folder)
    return result


def apply(config: T, changes: Mapping[str, Any], source: str) -> T:
    """A copy of ``config`` with ``changes`` (nested, or with dotted keys) applied. ``source`` is
    for messages."""
    return _apply(config, changes, source, "", type(config))


def _apply(config: T, changes: Mapping[str, Any], source: str, prefix: str, root: type) -> T:
    hints = type_hints(type(config))
    values: dict[str, Any] = {}
    for name, value in _undotted(changes, source, prefix).items():
        key = f"{prefix}{name}"
        if name in getattr(type(config), "RETIRED", ()) and not isinstance(value, RawText):
            # files of earlier programs may say it; who sets it today is told that there is no such
            # key
            continue
        if name not in hints:
            raise UserError(f"{source}: unknown key {key[:100]}; {_nearest(key, root)}")
        inner = inner_dataclass(hints[name])
        if inner is not None and isinstance(value, Mapping):
            current = getattr(config, name)
            values[name] = _apply(
                inner() if current is None else current, value, source, f"{key}.", root
            )
        else:
            values[name] = convert(value, hints[name], source, key)
    try:
        return dataclasses.replace(cast(Any, config), **values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except ValueError as error:
        raise UserError(
            f"{source}: {', '.join(prefix + name for name in values)}: {error}"
        ) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Every field as plain values that YAML and JSON can say."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def to_yaml(config: Any) -> str:
    """The resolved configuration, every field of it; ``load_preset`` of the file gives an equal
    one."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, width=100)


def fields(cls: type) -> list[Field]:
    """Every setting with its type, default and docstring, in the order of the code."""

    def walk(config: Any, prefix: str) -> Iterator[Field]:
        hints, docs = type_hints(type(config)), field_docs(type(config))
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                yield from walk(value, f"{prefix}{field.name}.")
            else:
                yield Field(
                    f"{prefix}{field.name}",
                    describe_type(hints[field.name]),
                    value,
                    docs.get(field.name, ""),
                )

    return list(walk(cls(), ""))


def listing(cls: type) -> str:
    """Every setting for a terminal: key, default, type, and what it means."""
    import textwrap

    lines = []
    for field in fields(cls):
        lines.append(f"{field.key} = {_scalar_text(field.default)}    ({field.type})")
        lines += textwrap.wrap(
            " ".join(field.doc.split()), 110, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join(lines)


def _pairs(overrides: Mapping[str, Any] | Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """(source for messages, key, value) of each override."""
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            yield f"{key}={value}", key, value
        return
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"{_COMMAND_LINE} {text[:100]}: expected KEY=VALUE, such as {_COMMAND_LINE} a.b=1"
            )
        quoted = text if len(text) <= 80 else f"{text[:77]}..."
        yield f"{_COMMAND_LINE} {quoted}", key.strip(), RawText(value.strip())


def _undotted(changes: Mapping[Any, Any], source: str, prefix: str) -> dict[str, Any]:
    """Turns ``{"a.b": 1, "a": {"c": 2}}`` into ``{"a": {"b": 1, "c": 2}}``."""
    result: dict[str, Any] = {}
    for key, value in changes.items():
        if not isinstance(key, str):
            raise UserError(
                f"{source}: {prefix}{key}: expected a name as key, got {key!r}; put it in quotes"
            )
        head, dot, rest = key.partition(".")
        if dot:
            value = {rest: value}
        if isinstance(value, Mapping) and isinstance(result.get(head), dict):
            result[head] = {**result[head], **value}
        else:
            result[head] = dict(value) if isinstance(value, Mapping) else value
    return result


def _nearest(key: str, root: type) -> str:
    """A hint for an unknown key: the likeliest known one, by its whole path or by its last part
    alone."""
    known = {field.key for field in fields(root)}
    known |= {key.rpartition(".")[0] for key in known if "." in key}  # the sections
    key = key[:100]
    section, _, name = key.rpartition(".")

    def likeness(candidate: str) -> float:
        other_section, _, other_name = candidate.rpartition(".")
        in_place = 0.05 if section == other_section else 0.0
        by_name = difflib.SequenceMatcher(None, name, other_name).ratio() + in_place
        return max(by_name, difflib.SequenceMatcher(None, key, candidate).ratio())

    best = max(sorted(known), key=likeness)
    if likeness(best) < 0.6:
        siblings = [
            known_key for known_key in sorted(known) if known_key.rpartition(".")[0] == section
        ]
        return f"known here: {_listed(siblings or sorted(known))}"
    return f"did you mean {best}?"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _scalar_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(_plain(value))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"
