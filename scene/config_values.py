"""Values of configuration fields: parsing, checking against a field's type, and the words for both
in messages."""

# plain values of YAML are of any type:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

import msgspec

from likeness.scene.errors import UserError
from likeness.scene.reading import parse_yaml

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.[\d_]+)([eE][-+]?\d+)?")


class RawText(str):
    """A value as typed on the command line: read as YAML, and as text where only that fits the
    field."""


@functools.cache
def type_hints(cls: type) -> dict[str, Any]:
    """Field name to resolved type of a dataclass, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def inner_dataclass(hint: Any) -> Any:
    """The dataclass of a field that is one, or may be one (``Optional``); None for plain fields."""
    return next((option for option in _options(hint) if dataclasses.is_dataclass(option)), None)


def convert(value: Any, hint: Any, source: str, key: str) -> Any:
    """``value`` (of YAML, of Python or a RawText) as the type of a field. Raises UserError where it
    does not fit."""
    import yaml

    candidates = [value]
    if isinstance(value, RawText):
        try:
            value = parse_yaml(str(value))
        except yaml.YAMLError:
            value = str(value)
        # The text itself serves where YAML reads something else: off, 12, null.
        candidates = [value, str(candidates[0])]
    for candidate in candidates:
        for spelling in (candidate, _as_numbers(candidate)):
            try:
                return msgspec.convert(spelling, hint, dec_hook=_special)
            except (ValueError, TypeError, RecursionError, NotImplementedError):
                continue
    raise UserError(f"{source}: {key}: expected {describe_type(hint)}, got {_got(value, hint)}")


def _special(kind: type, value: Any) -> Any:
    """What msgspec does not read by itself."""
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise TypeError(kind)


def _as_numbers(value: Any) -> Any:
    """A value with its numbers as people write them: 1e-3, which YAML 1.1 takes for text, and 1e4
    for 10000."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value.replace("_", ""))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_as_numbers(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _as_numbers(item) for key, item in value.items()}
    return value


def describe_type(hint: Any) -> str:
    """A type in words that a person who writes YAML understands."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return describe_type(arguments[0]) + _bounds(arguments[1])
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list, each item {describe_type(arguments[0])}"
    if origin is tuple:
        items = ", ".join(describe_type(argument) for argument in arguments)
        return f"a list of {len(arguments)} ({items})"
    if origin is list:
        return f"a list, each item {describe_type(arguments[0])}"
    if origin is dict:
        return f"a mapping from names, each value {describe_type(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "a mapping with " + ", ".join(type_hints(hint))
    return _WORDS.get(hint, str(getattr(hint, "__name__", hint)))


def _bounds(meta: msgspec.Meta) -> str:
    """Bounds in words: `` from 1 to 64``, `` above 0``."""
    low = (
        f" from {meta.ge}"
        if meta.ge is not None
        else f" above {meta.gt}"
        if meta.gt is not None
        else ""
    )
    high = (
        ""
        if meta.le is None
        else f" to {meta.le}"
        if low.startswith(" from")
        else f" and at most {meta.le}"
    )
    return low + high


def field_docs(cls: type) -> dict[str, str]:
    """The docstring strings under the fields of a dataclass and of those it inherits from, read
    from the source."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            docs.update(_own_docs(base))
    return docs


@functools.cache
def _own_docs(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):  # no source at hand: made in a session, or a zipped installation
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    docs: dict[str, str] = {}
    for field, text in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs[field.target.id] = inspect.cleandoc(str(text.value.value))
    return docs


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _got(value: Any, hint: Any) -> str:
    """A value in YAML's words, with the usual trap named: off, no and yes are not text."""
    if isinstance(value, bool):
        takes_text = any(
            option is str or typing.get_origin(option) is Literal for option in _options(hint)
        )
        note = " (YAML reads on, off, yes and no so: put the word in quotes)" if takes_text else ""
        return str(value).lower() + note
    return "null" if value is None else repr(value)
