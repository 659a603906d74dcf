"""Which subjects there are: those of a list, one line for each video, or the videos in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from likeness.preprocess.matting import NAMES as MATTING_NAMES
from likeness.scene.bounds import MAX_NUMBER, MAX_WHOLE
from likeness.scene.errors import UserError
from likeness.scene.foreign_paths import MAX_NAME, folder_name
from likeness.scene.reading import read_text

Options = dict[str, Any]
ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXAMPLE = "VIDEO name=anna minutes=5"
EXCLUSIVE = ("minutes", "iterations")  # the one that is nearer to the subject counts
_ABOVE_0 = sys.float_info.min


@dataclasses.dataclass(frozen=True)
class Subject:
    """One video to work on. options: what its line says, by the names of OPTIONS; where: file and
    line for messages."""

    name: str
    video: Path
    options: Options
    where: str


# What a line may set: type, smallest and largest value, and what is expected.
_NUMBERS: dict[str, tuple[type, float, float, str]] = {
    "minutes": (
        float,
        _ABOVE_0,
        MAX_NUMBER,
        f"a number of minutes above 0, at most {MAX_NUMBER:g}",
    ),
    "iterations": (int, 1, MAX_WHOLE, f"a whole number from 1 to {MAX_WHOLE}"),
    "seed": (int, 0, 2**32 - 1, f"a whole number from 0 to {2**32 - 1}"),
    "size": (int, 1, MAX_WHOLE, "a number of pixels above 0"),
    "start": (float, 0, MAX_NUMBER, "a number of seconds from 0 on"),
    "end": (float, _ABOVE_0, MAX_NUMBER, "a number of seconds above 0"),
    "focal": (float, _ABOVE_0, MAX_NUMBER, "a focal length above 0, in long sides of the image"),
}
_CHOICES = {"matting": MATTING_NAMES, "tracking": ("pictures", "landmarks")}
OPTIONS = ("preset", *_NUMBERS, *_CHOICES)


def read_list(path: Path) -> tuple[Subject, ...]:
    """Reads a list: each line a video's path and ``key=value`` options, in quotes where they hold
    spaces.

    ``#`` begins a comment. Paths are relative to the list's folder. ``name=`` names the subject;
    unless given, the video's file name does. Raises UserError with file and line for anything that
    does not fit, for videos that are missing, and for names that are given twice.
    """
    path = Path(path)
    remedy = f"it is text with lines like: {_EXAMPLE}"
    lines = enumerate(read_text(path, "list of subjects", remedy=remedy).splitlines(), 1)
    parsed = [_parse(line, path.parent, f"{path}:{number}") for number, line in lines]
    subjects = tuple(subject for subject in parsed if subject is not None)
    if not subjects:
        raise UserError(f"{path}: holds no subject; expected lines like: {_EXAMPLE}")
    _check_names(subjects)
    return subjects


def find_videos(folder: Path) -> tuple[Subject, ...]:
    """The videos in a folder and those below it, by their endings, in alphabetical order; hidden
    ones are left out.

    Each is named after its path, so that a name stays when other videos come to the folder. Raises
    UserError for folders that are missing or hold no video.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: not a folder; expected one with videos in it or below "
            f"({', '.join(ENDINGS)})"
        )
    paths = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in ENDINGS and path.is_file() and not hidden:
            paths.append(relative)
    if not paths:
        raise UserError(f"{folder}: holds no video; expected files ending in {', '.join(ENDINGS)}")
    stems = [_folder_name(path.with_suffix("")) for path in paths]
    count = Counter(stems)
    names = [stem if count[stem] == 1 else _folder_name(path) for stem, path in zip(stems, paths)]
    for name, times in Counter(names).items():
        if times > 1:
            pair = " and ".join([str(p) for p, given in zip(paths, names) if given == name][:2])
            raise UserError(f"{folder}: {pair} would both be named {name!r}; rename one of them")
    return tuple(
        Subject(name, (folder / path).absolute(), {}, str(folder / path))
        for name, path in zip(names, paths)
    )


def _folder_name(relative: Path) -> str:
    return name_from("__".join(relative.parts)).lower()


def _check_names(subjects: Iterable[Subject]) -> None:
    """Raises UserError when two subjects would be kept in one folder (on some systems, case makes
    no difference)."""
    seen: dict[str, Subject] = {}
    for subject in subjects:
        first = seen.setdefault(subject.name.lower(), subject)
        if first is not subject:
            raise UserError(
                f"{subject.where}: the name {subject.name!r} is that of {first.where} already; "
                "add name=OTHER to one"
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
            expected = "expected key=value after the video"
            raise UserError(f"{where}: {expected}, got {word!r}; a line is like: {_EXAMPLE}")
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
    if key in _NUMBERS:
        kind, low, high, expected = _NUMBERS[key]
        with contextlib.suppress(ValueError):  # also of integers of more digits than Python reads
            if (kind is float or text.isdecimal()) and low <= (value := kind(text)) <= high:
                return value
    elif key in _CHOICES:
        expected = " or ".join(_CHOICES[key])
        if text in _CHOICES[key]:
            return text
    elif key == "preset":
        return text
    else:
        names = ", ".join(OPTIONS)
        raise UserError(f"{where}: unknown option {key!r}; expected name or one of {names}")
    raise UserError(f"{where}: {key}: expected {expected}, got {text!r}")
