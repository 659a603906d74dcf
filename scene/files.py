"""Files that are either whole or absent: everything is written beside its place and moved into it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scene.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder; moves it to ``path`` on success and removes it otherwise.

    Raises UserError when the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``path``; moves it there on success and removes it otherwise.

    Raises UserError when there is something at ``path``, the disk is full or the place cannot be written to.
    """
    path = Path(path)
    check_absent(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_absent(path: Path) -> None:
    """Raises UserError when there is a file or a folder with anything in it: nothing is overwritten."""
    path = Path(path)
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(f"{path}: exists already and is not overwritten; choose another --out, or remove it")


def storage_error(error: OSError, path: Path) -> Exception:
    """A UserError for what the person can mend (full disk, no permission), else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{path}: no space left on the disk; free some, then run the same command again to go on")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return UserError(f"{path}: cannot write there ({error.strerror}); choose another folder with --out")
    return error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Reads JSON. ``what`` names the thing for the message of the UserError that a missing or damaged file raises."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; expected the {what}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the {what} ({error}); it is damaged, make it anew") from None
