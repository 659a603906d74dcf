"""How kernels are compiled and where the compiled code is kept."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numba

log = logging.getLogger(__name__)

# Kernels that meet only finite numbers may assume so; those that meet the caller's numbers may not (a NaN must compare
# false, so that a broken Gaussian is not drawn).
FINITE = True
ANY_NUMBER = {"contract", "reassoc", "nsz", "arcp"}
# Kernels of explicit vectors: these say themselves what may be assumed (numba would add its flags to theirs).
AS_WRITTEN = False


def helper(fastmath=ANY_NUMBER) -> Callable:
    """Decorates a function that kernels call; it is compiled into them."""
    return numba.njit(error_model="numpy", fastmath=fastmath)


def inlined(fastmath=FINITE) -> Callable:
    """Decorates a function that is copied into its callers, where constant arguments select its branches."""
    return numba.njit(error_model="numpy", fastmath=fastmath, inline="always")


def kernel(fastmath=ANY_NUMBER) -> Callable:
    """Decorates a function that Python calls: compiled on first use, then kept on disk."""

    def decorate(function: Callable):
        folder = _cache_folder()
        options = {"error_model": "numpy", "fastmath": fastmath, "nogil": True}
        with _numba_cache_in(folder):
            return numba.njit(cache=folder is not None, **options)(function)

    return decorate


@lru_cache(maxsize=1)
def _cache_folder() -> Path | None:
    """A writable folder that belongs to this very version of all the kernels' sources, or None.

    numba notices changes of the file that holds a kernel, but not of the files with the functions it calls; hence the
    digest over all of them.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted([*here.glob("*.py"), here.parent / "constants.py", here.parents[1] / "scene" / "sh.py"]):
        digest.update(path.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    roots = [here / "__pycache__", home / "likeness" / "kernels"]
    if numba.config.CACHE_DIR:
        roots.insert(0, Path(numba.config.CACHE_DIR))
    for root in roots:
        folder = root / digest.hexdigest()[:16]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    log.warning("no folder for compiled code is writable (tried %s): the renderer is compiled anew in every run; "
                "set NUMBA_CACHE_DIR to a writable folder", ", ".join(map(str, roots)))  # fmt: skip
    return None


@contextlib.contextmanager
def _numba_cache_in(folder: Path | None) -> Iterator[None]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = "" if folder is None else str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
