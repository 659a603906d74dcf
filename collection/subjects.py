"""The list of subjects: a text file, one line for each video."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from likeness.scene.bounds import MAX_NUMBER, MAX_WHOLE
from likeness.scene.errors import UserError
from likeness.scene.foreign_paths import MAX_NAME, folder_name
from likeness.scene.reading import read_text

Options = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXAMPLE = "VIDEO name=anna minutes=5"
# two ways to say how long a fit is: the one nearer to the subject counts
EXCLUSIVE = ("minutes", "iterations")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One video to work on. options: what its line says, by the names of OPTIONS; where: file and
    line for messages."""

    name: str
    video: Path
    options: Options
    where: str


def _positive(text: str) -> float:
    value = _from_zero(text)
    if value == 0:
        raise ValueError
    return value


def _from_zero(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_NUMBER:
        raise ValueError
    return value


def _positive_int(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WHOLE:
        raise ValueError
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise ValueError
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return convert


# What a line may set: how its text is read, and what is expected.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "minutes": (_positive, f"a number of minutes above 0, at most {MAX_NUMBER:g}"),
    "iterations": (_positive_int, f"a whole number from 1 to {MAX_WHOLE}"),
    "preset": (str, "the name of a preset"),
    "seed": (_seed, f"a whole number from 0 to {2**32 - 1}"),
    "size": (_positive_int, "a number of pixels above 0"),
    "start": (_from_zero, "a number of seconds from 0 on"),
    "end": (_positive, "a number of seconds above 0"),
    "focal": (_positive, "a focal length above 0, in long sides of the picture"),
    "matting": (_one_of("auto", "modnet", "selfie"), "auto, modnet or selfie"),
    "tracking": (_one_of("pictures", "landmarks"), "pictures or landmarks"),
}


def read_list(path: Path) -> tuple[Subject, ...]:
    """Reads a list: each line a video's path and ``key=value`` options, in quotes where they hold
    spaces.

    ``#`` begins a comment. Paths are relative to the list's folder. ``name=`` names the subject;
    unless given, the video's file name does. Raises UserError with file and line for anything that
    does not fit, for videos that are missing, and for names that are given twice.
    """
    path = Path(path)
    lines = read_text(
        path, "list of subjects", remedy=f"it is text with lines like: {_EXAMPLE}"
    ).splitlines()
    subjects = [
        subject
        for number, line in enumerate(lines, 1)
        if (subject := _parse(line, path.parent, f"{path}:{number}"))
    ]
    if not subjects:
        raise UserError(f"{path}: holds no subject; expected lines like: {_EXAMPLE}")
    check_names(subjects)
    return tuple(subjects)


def check_names(subjects: Iterable[Subject]) -> None:
    """Raises UserError when two subjects would be kept in one folder (on some systems, case makes
    no difference)."""
    seen: dict[str, Subject] = {}
    for subject in subjects:
        first = seen.setdefault(subject.name.lower(), subject)
        if first is not subject:
            raise UserError(
                f"{subject.where}: the name {subject.name!r} is that of {first.where} already; add name=OTHER to one"
            )


def only(subjects: tuple[Subject, ...], number: int | None) -> tuple[Subject, ...]:
    """The subject of this number, from 1 on; all of them for None. Raises UserError when there are
    not as many."""
    if number is None:
        return subjects
    if number > len(subjects):
        raise UserError(
            f"--only {number}: there are {len(subjects)} subjects; expected a number from 1 to that"
        )
    return (subjects[number - 1],)


def merged(common: Options, subject: Options) -> Options:
    """Options for all with those of one subject over them. None means not given."""
    given = {key: value for key, value in subject.items() if value is not None}
    result = {key: value for key, value in common.items() if value is not None}
    if any(key in given for key in EXCLUSIVE):
        result = {key: value for key, value in result.items() if key not in EXCLUSIVE}
    return {**result, **given}


def name_from(text: str) -> str:
    """A name for folders made of any text, such as a file name."""
    return folder_name(re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-") or "subject")


def _parse(line: str, folder: Path, where: str) -> Subject | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UserError(f"{where}: {error}; put what holds spaces into a pair of quotes") from None
    if not words:
        return None
    video, *rest = words
    options: Options = {}
    for word in rest:
        key, separator, value = word.partition("=")
        if not separator:
            raise UserError(
                f"{where}: expected key=value after the video, got {word!r}; a line is like: {_EXAMPLE}"
            )
        if key in options:
            raise UserError(f"{where}: {key} is given twice; keep one of them")
        options[key] = _name(value, where) if key == "name" else _value(key, value, where)
    name = options.pop("name", None) or name_from(Path(video).stem)
    if all(key in options for key in EXCLUSIVE):
        raise UserError(f"{where}: minutes and iterations are both given; keep one of them")
    path = (folder / video).absolute()
    if not os.path.isfile(path):  # unlike Path.is_file, also false for names that no file can have
        raise UserError(
            f"{where}: {path}: no such video; paths are relative to the folder of the list"
        )
    return Subject(name, path, options, where)


def _name(value: str, where: str) -> str:
    if not _NAME.fullmatch(value) or len(value) > MAX_NAME:
        expected = f"at most {MAX_NAME} letters, digits, '.', '_' and '-'"
        raise UserError(f"{where}: name: expected {expected}, got {value!r}")
    return value


def _value(key: str, text: str, where: str) -> Any:
    if key not in OPTIONS:
        raise UserError(
            f"{where}: unknown option {key!r}; expected name or one of {', '.join(OPTIONS)}"
        )
    convert, expected = OPTIONS[key]
    try:
        return convert(text)
    except ValueError:
        raise UserError(f"{where}: {key}: expected {expected}, got {text!r}") from None
