"""Text, JSON and YAML from outside: one reader with types and bounds, and one line for whatever is
wrong.

What a file holds is described by types (``msgspec.Struct`` or dataclasses; bounds as
``Annotated[int, Meta(ge=1)]``) that stand beside what they describe. Nothing is read beyond a
number of bytes, built beyond a depth, or followed: no references, no classes, nothing that is
executed. Tensors and arrays: ``likeness.scene.tensor_files``.
"""

# PyYAML is untyped:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
from __future__ import annotations

import contextlib
import csv
import gzip
import lzma
import os
import pickle
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from likeness.scene.errors import UserError

T = TypeVar("T")

MAX_TEXT = 1 << 20  # bytes of a list, a preset, a line of a log
MAX_JSON = 16 << 20  # bytes of a manifest: a hundred thousand frames
DAMAGED = "it is damaged, make it anew"

Side = Annotated[int, msgspec.Meta(ge=1, le=16384)]
"""Pixels of one side of an image."""
Names = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]], msgspec.Meta(max_length=2000)
]
"""Names of expressions, joints, columns."""

# What the standard library, msgspec, PyYAML, NumPy, safetensors and PyTorch raise for files that
# are not what their names promise. Errors of the system (a full memory, an interrupt) are none of
# these.
_DAMAGE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    RuntimeError,
    EOFError,
    OSError,
    SyntaxError,
    NotImplementedError,
    AssertionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    pickle.UnpicklingError,
    csv.Error,
)
# no double is that long; an int so long is a burden to whoever prints it
_LONG_NUMBER = re.compile(rb"[0-9]{300}")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
}


@contextlib.contextmanager
def damage(where: Path | str, what: str, remedy: str = DAMAGED) -> Generator[None]:
    """Turns whatever a damaged file raises inside into a UserError that names ``where`` and
    ``what`` it should be, or the field of which msgspec complains.

    A UserError passes as it is.
    """
    import tokenize

    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{where}: not found; expected the {what}") from None
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_plain(str(error))}; {remedy}") from None
    except (*_DAMAGE, tokenize.TokenError, SafetensorError) as error:
        raise UserError(
            f"{where}: cannot be read as the {what} ({reason(error)}); {remedy}"
        ) from None


def reason(error: BaseException) -> str:
    """What an exception says, in a few plain words."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not text in UTF-8"
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else '?'!s} is missing"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else f"{text[:200]}...") or type(error).__name__


def read_bytes(path: Path, what: str, most: int = MAX_TEXT, remedy: str = DAMAGED) -> bytes:
    """A file's content. Raises UserError when it is missing, no plain file, or larger than ``most``
    bytes."""
    with damage(path, what, remedy):
        check_size(path, what, most)
        with Path(path).open("rb") as file:
            data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(path, len(data), what, most)
    return data


def check_size(path: Path, what: str, most: int) -> None:
    """Raises UserError unless ``path`` is a plain file of at most ``most`` bytes."""
    with damage(path, what, "give another file"):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a file; expected the {what}")
    if status.st_size > most:
        raise _too_large(path, status.st_size, what, most)


def _too_large(path: Path, size: int, what: str, most: int) -> UserError:
    return UserError(
        f"{path}: {size / 1e6:.1f} MB; the {what} has at most {most / 1e6:.3g} MB: give another "
        "file"
    )


def read_text(path: Path, what: str, most: int = MAX_TEXT, remedy: str = DAMAGED) -> str:
    """Text in UTF-8, with or without a byte-order mark."""
    with damage(path, what, remedy):
        return read_bytes(path, what, most, remedy).decode("utf-8-sig")


def read_json(
    path: Path, kind: type[T], what: str, most: int = MAX_JSON, remedy: str = DAMAGED
) -> T:
    """A JSON file as a ``kind``: any type that msgspec reads. ``what`` names it in messages.

    Raises UserError that names the file and, where it is one, the field and what was expected
    there.
    """
    return decode_json(read_bytes(path, what, most, remedy), kind, path, what, remedy)


class _Format(msgspec.Struct):
    format: Any = None
    format_version: Any = None


def read_versioned(
    path: Path,
    kind: type[T],
    what: str,
    format: str,
    newest: int,
    oldest: int = 1,
    most: int = MAX_JSON,
    remedy: str = DAMAGED,
) -> tuple[T, dict[str, Any]]:
    """A JSON file of ours that says its ``format`` and ``format_version``: as a ``kind``, and as it
    stands.

    Raises UserError for another format, for versions beyond ``oldest`` to ``newest``, and as
    ``read_json`` does.
    """
    data = read_bytes(path, what, most, remedy)
    stated = decode_json(data, _Format, path, what, remedy)
    if stated.format != format:
        got = str(stated.format)[:40]
        raise UserError(
            f"{path}: format: expected {format!r}, got {got!r}; this file is of another kind"
        )
    version = stated.format_version
    if type(version) is not int or version > newest:
        raise UserError(
            f"{path}: {format} format {version} is newer than this program's {newest}; update the "
            "program"
        )
    if version < oldest:
        raise UserError(
            f"{path}: {format} format {version} is of an earlier version of this program; make it "
            "anew"
        )
    return decode_json(data, kind, path, what, remedy), decode_json(
        data, dict[str, Any], path, what, remedy
    )


def decode_json(
    data: bytes | str, kind: type[T], where: Path | str, what: str, remedy: str = DAMAGED
) -> T:
    """JSON text as a ``kind``, as ``read_json`` does."""
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _LONG_NUMBER.search(data):
        raise UserError(
            f"{where}: cannot be read as the {what} (a number of hundreds of digits); {remedy}"
        )
    with damage(where, what, remedy):
        return msgspec.json.decode(data, type=kind)


def read_log(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a log of any length with one JSON object in each, as they stand and as read.
    Lines without a whole number ``step`` are left out: a kill may have cut one."""
    with damage(path, "log of a fit"), Path(path).open("rb") as file:
        while line := file.readline(MAX_TEXT):
            with contextlib.suppress(UserError):
                entry = decode_json(line, dict[str, Any], path, "log of a fit")
                if type(entry.get("step")) is int:
                    yield line.rstrip(b"\r\n"), entry


def convert(value: Any, kind: type[T], where: Path | str, remedy: str = DAMAGED) -> T:
    """Plain values (of JSON or YAML) as a ``kind``. Raises UserError that names the field and what
    was expected."""
    with damage(where, "values", remedy):
        return msgspec.convert(value, type=kind)


def _plain(message: str) -> str:
    """A message of msgspec's as the other readers say it: ``frames[3].time_s: expected a number >=
    0.0``."""
    text, _, place = message.partition(" - at ")
    place = (
        re.sub(r"^key in `?|`", "", place)
        .removeprefix("$")
        .removeprefix(".")
        .replace("[...]", ".*")
    )
    if missing := re.fullmatch(r"Object missing required field `(.*)`", text):
        return f"{place + '.' if place else ''}{missing[1]}: missing"
    text = re.sub(
        r"`([^`]*)`",
        lambda match: " or ".join(_WORDS.get(w, w) for w in match[1].split(" | ")),
        text,
    )
    return f"{place}: {text[0].lower()}{text[1:]}" if place else f"{text[0].lower()}{text[1:]}"


def read_yaml(path: Path, what: str, remedy: str = "mend the file") -> dict[str, Any]:
    """A YAML mapping of plain values; an empty file is an empty mapping."""
    import yaml

    text = read_text(path, what, remedy=remedy)
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"{path}: {line}not valid YAML ({problem}); {remedy}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: expected lines of key: value, got {type(value).__name__}; {remedy}"
        )
    return value


def parse_yaml(text: str) -> Any:
    """Plain values of YAML: null, true and false, numbers of a common size, text, lists and
    mappings.

    A key given twice is an error instead of a silent loss; so are references (``*name``), by which
    a few lines stand for gigabytes, numbers that no double holds, and more than a hundred levels.
    Raises yaml.YAMLError.
    """
    import yaml
    from yaml.composer import ComposerError
    from yaml.constructor import ConstructorError

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent):
                raise ComposerError(None, None, "references (*name) are not read", event.start_mark)
            if self.depth >= 100:
                raise ComposerError(None, None, "nested too deeply", event.start_mark)
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, str) and key in seen:
                    raise ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
                seen.add(key if isinstance(key, str) else id(key_node))
            return super().construct_mapping(node, deep)

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                if (
                    isinstance(node, yaml.ScalarNode)
                    and node.tag.endswith((":int", ":float"))
                    and len(node.value) > 64
                ):
                    raise ValueError("a number of more than 64 characters")
                return super().construct_object(node, deep)
            except (
                ValueError,
                OverflowError,
                IndexError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:
                raise ConstructorError(None, None, reason(error), node.start_mark) from None

    try:
        return yaml.load(text, Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError:  # flow sequences are nested while they are scanned, too
        raise ComposerError(None, None, "nested too deeply") from None
