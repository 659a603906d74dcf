"""Values of configuration fields: parsing, checking against a field's type, and the words for both in messages."""

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

from scene.errors import UserError

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.[\d_]+)([eE][-+]?\d+)?")
_MISMATCH = object()


class RawText(str):
    """A value as typed on the command line: read as YAML, and as text where only that fits the field."""


@functools.cache
def type_hints(cls: type) -> dict[str, Any]:
    """Field name to resolved type of a dataclass, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def inner_dataclass(hint: Any) -> type | None:
    """The dataclass of a field that is one, or may be one (``Optional``); None for plain fields."""
    return next((option for option in _options(hint) if dataclasses.is_dataclass(option)), None)


def convert(value: Any, hint: Any, source: str, key: str) -> Any:
    """``value`` (of YAML, of Python or a RawText) as the type of a field. Raises UserError where it does not fit."""
    import yaml

    if isinstance(value, RawText):
        text = str(value)
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            value = text
        result = _match(value, hint)
        if result is _MISMATCH:  # text that YAML reads as something else: off, 12, null
            result = _match(text, hint)
    else:
        result = _match(value, hint)
    if result is _MISMATCH:
        raise UserError(f"{source}: {key}: expected {describe_type(hint)}, got {_got(value, hint)}")
    return result


def describe_type(hint: Any) -> str:
    """A type in words that a person who writes YAML understands."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list, each item {describe_type(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} ({', '.join(describe_type(argument) for argument in arguments)})"
    if origin is list:
        return f"a list, each item {describe_type(arguments[0])}"
    if origin is dict:
        return f"a mapping from names, each value {describe_type(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "a mapping with " + ", ".join(type_hints(hint))
    return _WORDS.get(hint, str(getattr(hint, "__name__", hint)))


def field_docs(cls: type) -> dict[str, str]:
    """The docstring strings under the fields of a dataclass and of those it inherits from, read from the source."""
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
    docs = {}
    for statement, following in zip(body, body[1:], strict=False):
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if is_field and is_text and isinstance(following.value.value, str):
            docs[statement.target.id] = inspect.cleandoc(following.value.value)
    return docs


def parse_yaml(text: str) -> Any:
    """YAML by the safe loader, with a key given twice an error instead of a silent loss."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, str) and key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
                seen.add(key if isinstance(key, str) else id(key_node))
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)  # noqa: S506 (a SafeLoader)


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _match(value: Any, hint: Any) -> Any:
    """The value as that type, or _MISMATCH."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return next((choice for choice in arguments if type(choice) is type(value) and choice == value), _MISMATCH)
    if origin in (Union, types.UnionType):
        exact = [option for option in arguments if isinstance(option, type) and type(value) is option]
        matches = (_match(value, option) for option in (*exact, *arguments))
        return next((match for match in matches if match is not _MISMATCH), _MISMATCH)
    if origin in (tuple, list):
        return _match_sequence(value, origin, arguments)
    if origin is dict:
        return _match_dict(value, arguments)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _MISMATCH
    return _match_plain(value, hint)


def _match_plain(value: Any, hint: Any) -> Any:
    if hint in (int, float) and isinstance(value, str):
        # PyYAML follows YAML 1.1, where 1e-3 (no dot, no sign after e) is text.
        value = float(value.replace("_", "")) if _NUMBER.fullmatch(value) else value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is types.NoneType:
        return value if value is None else _MISMATCH
    return value if type(value) is hint or (hint is str and isinstance(value, str)) else _MISMATCH


def _match_sequence(value: Any, origin: type, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple)):
        return _MISMATCH
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        if len(value) != len(arguments):
            return _MISMATCH
        types_of_items = arguments
    else:
        types_of_items = (arguments[0],) * len(value)
    items = [_match(item, hint) for item, hint in zip(value, types_of_items, strict=True)]
    return _MISMATCH if any(item is _MISMATCH for item in items) else origin(items)


def _match_dict(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return _MISMATCH
    items = {key: _match(item, arguments[1]) for key, item in value.items()}
    return _MISMATCH if any(item is _MISMATCH for item in items.values()) else items


def _got(value: Any, hint: Any) -> str:
    """A value in YAML's words, with the usual trap named: off, no and yes are not text."""
    if isinstance(value, bool):
        takes_text = any(option is str or typing.get_origin(option) is Literal for option in _options(hint))
        note = " (YAML reads on, off, yes and no so: put the word in quotes)" if takes_text else ""
        return str(value).lower() + note
    return "null" if value is None else repr(value)
