"""Files that are either whole or absent: everything is written beside its place, to the disk, and
moved into it."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from likeness.scene.errors import UserError

_log = logging.getLogger(__name__)

_MAX_NAME = 255  # bytes; what file systems allow


@contextlib.contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Gives a temporary path in the same folder; moves it to ``path`` on success and removes it
    otherwise.

    The content is on the disk before it gets its name, so that a power cut leaves the old file or
    the new one; its mode is that of any new file (the umask's). Raises UserError when the disk is
    full or the folder cannot be written to.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _new_mode(temporary)
        yield temporary
        os.chmod(temporary, mode)  # some libraries write what only its owner may read
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Gives a temporary folder beside ``path``; moves it there on success and removes it otherwise.

    Raises UserError when there is something at ``path``, the disk is full or the place cannot be
    written to.
    """
    path = Path(path)
    check_absent(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _to_disk(Path(folder, name))
            _to_disk(Path(folder))
        os.replace(temporary, path)
        _to_disk(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def held(path: Path, busy: str, wait: bool = False) -> Generator[None]:
    """Holds a lock file (made if need be) against other processes; a killed process leaves no lock.

    While another process holds it, a UserError says ``busy``; with ``wait`` a line of the log, and
    it is waited for.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise storage_error(error, path.parent) from error
    with file:
        if not _try_lock(file):
            if not wait:
                raise UserError(busy)
            _log.warning("%s; waiting for it", busy)
            while not _try_lock(file):
                time.sleep(0.2)
        yield  # closing the file frees the lock


def _try_lock(file: IO[bytes]) -> bool:
    """Locks an open file against other processes until it is closed; False while another one holds
    it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_absent(path: Path) -> None:
    """Raises UserError when there is a file or a folder with anything in it: nothing is
    overwritten."""
    path = Path(path)
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(
            f"{path}: exists already and is not overwritten; choose another --out, or remove it"
        )


def check_writable(path: Path) -> None:
    """Raises UserError when no file or folder can be made at ``path``: before the work whose result
    is to be there.

    Folders on the way may be missing. What is tried leaves no trace.
    """
    path = Path(path)
    try:
        path.exists()  # a name that is too long is an error of its own
        folder = (
            path
            if path.is_dir()
            else next(parent for parent in path.absolute().parents if parent.exists())
        )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        known = storage_error(error, path)
        if isinstance(known, UserError):
            raise known from error
        raise UserError(
            f"{path}: cannot write there ({error.strerror}); choose another folder"
        ) from error


def storage_error(error: OSError, path: Path) -> Exception:
    """A UserError for what the person can mend (full disk, no permission, a long name), else the
    error itself.

    path: what was to be written. A folder on its way that the system calls missing is one that it
        lets nobody make.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: no space left on the disk; free some, then run the same command again to go "
            "on"
        )
    unusable = (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENAMETOOLONG,
    )
    missing = error.errno == errno.ENOENT and str(error.filename) in map(
        str, (path, *Path(path).parents)
    )
    if error.errno in unusable or missing:
        return UserError(f"{path}: cannot write there ({error.strerror}); choose another folder")
    return error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _beside(path: Path) -> Path:
    """A temporary name in the same folder with the same ending, no longer than a file system
    allows."""
    tail = f".{os.getpid()}.partial{path.suffix}"
    stem = os.fsencode(path.stem)[: _MAX_NAME - 1 - len(os.fsencode(tail))]
    return path.with_name(f".{stem.decode(errors='ignore')}{tail}")


def _new_mode(path: Path) -> int:
    """The mode that a new file gets there, by the umask and the folder."""
    with path.open("wb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
    path.unlink()  # a writer that writes nothing must fail
    return mode


def _to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's names, would outlast a power cut; where that can
    be asked for."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # file systems that cannot say
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(handle)
