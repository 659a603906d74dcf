"""Paths and names that others chose: given to libraries that take text only, and made into names of
our own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

MAX_NAME = 180
"""Bytes of a name: file systems allow 255, and times, numbers and endings are added."""


@contextlib.contextmanager
def utf8_path(path: Path) -> Generator[str]:
    """An absolute path to the same file, which need not exist yet, in text that every library can
    take.

    Names on POSIX systems are bytes; those that are no UTF-8 end OpenCV with a segmentation fault
    and others with a traceback. For these it is a link, which lasts as long as the context; a file
    may stay open for longer. Absolute, so that none is taken for an address (``rtsp:a.mp4``).
    """
    text = os.path.abspath(path)
    if is_text(text):
        yield text
        return
    with tempfile.TemporaryDirectory(prefix="likeness-") as folder:
        ending = os.path.splitext(text)[1]
        link = os.path.join(folder, "file" + (ending if is_text(ending) else ""))
        os.symlink(text, link)
        yield link


def is_text(name: str) -> bool:
    """Whether a path or name is Unicode text; names of bytes that are no UTF-8 come with half
    surrogates in Python."""
    try:
        name.encode()
        return True
    except UnicodeEncodeError:
        return False


def shown(path: Path | str) -> str:
    """A path or name as text for files and people: as it is, or with ``\\xff`` for what is no text
    in it."""
    return str(path) if is_text(str(path)) else os.fsencode(path).decode(errors="backslashreplace")


def folder_name(text: str, most: int = MAX_NAME) -> str:
    """A printable name of at most ``most`` bytes for a file or folder of ours, made of the name of
    another one.

    What cannot be printed becomes ``_``; of longer ones the beginning and a hash stay, so that two
    do not meet.
    """
    name = "".join(c if c.isprintable() and c != "/" else "_" for c in text) or "_"
    data = name.encode()
    if len(data) <= most:
        return name
    mark = f"-{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}"
    return data[: most - len(mark)].decode(errors="ignore") + mark
