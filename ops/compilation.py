"""How kernels are compiled and where the compiled code is kept."""

# pyright: basic

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding

log = logging.getLogger(__name__)
_config: Any = importlib.import_module("numba.core.config")

Fastmath = bool | set[str]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_ROOT = Path(__file__).resolve().parents[1]  # of the package likeness, whose folders lie there
_IMPORT = re.compile(r"^from ([\w.]+) import (\([^)]*\)|[^\n]*)", re.MULTILINE)

# Kernels that meet only finite numbers may assume so; those that meet the caller's numbers may not
# (a NaN must compare false, so that a broken Gaussian is not drawn).
FINITE = True
ANY_NUMBER = {"contract", "reassoc", "nsz", "arcp"}
# Kernels of explicit vectors: these say themselves what may be assumed (numba would add its flags
# to theirs).
AS_WRITTEN = False


def has_avx512() -> bool:
    """Whether kernels are compiled for a processor with AVX-512."""
    chosen = _config.CPU_NAME or _config.CPU_FEATURES  # another than this one
    return not chosen and bool(binding.get_host_cpu_features().get("avx512f"))


def helper(fastmath: Fastmath = ANY_NUMBER) -> Decorator:
    """Decorates a function that kernels call; it is compiled into them.

    Always inlined, since a function of its own would be one of the whole process by its name: a
    kernel that has just been compiled would call the one that was compiled with it, a kernel from
    the disk its own copy, or that of another kernel which was loaded before. These are optimised
    differently, and so differ in their last bits.
    """
    return numba.njit(error_model="numpy", fastmath=fastmath, forceinline=True)


def inlined(fastmath: Fastmath = FINITE) -> Decorator:
    """Decorates a function that is copied into its callers, where constant arguments select its
    branches."""
    return numba.njit(error_model="numpy", fastmath=fastmath, inline="always")


def kernel(fastmath: Fastmath = ANY_NUMBER) -> Decorator:
    """Decorates a function that Python calls: compiled on first use, then kept on disk.

    What kernels share is a ``helper`` (see there), never a kernel.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        folder = _cache_folder(Path(function.__code__.co_filename))
        own = {"error_model": "numpy", "fastmath": fastmath, "nogil": True}
        with _numba_cache_in(folder):
            return numba.njit(cache=folder is not None, **own)(function)

    return decorate


@cache
def _cache_folder(path: Path) -> Path | None:
    """A writable folder that belongs to this very version of a file and of all it imports, or None.

    numba notices changes of the file that holds a kernel, but not of the files with the functions
    and constants that are compiled into it; hence the digest over all of them.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(_with_imports(path)):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    roots = [path.parent / "__pycache__", home / "likeness" / "kernels"]
    if _config.CACHE_DIR:
        roots.insert(0, Path(_config.CACHE_DIR))
    for root in roots:
        folder = root / digest.hexdigest()[:16]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    _warn_of_no_folder(tuple(map(str, roots)))
    return None


@lru_cache(maxsize=1)
def _warn_of_no_folder(tried: tuple[str, ...]) -> None:
    log.warning(
        "no folder for compiled code is writable (tried %s): kernels are compiled anew in every "
        "run; set NUMBA_CACHE_DIR to a writable folder",
        ", ".join(tried),
    )


def _with_imports(path: Path) -> set[Path]:
    """A source file and, of this project, all that its ``from ... import`` lines reach."""
    sources, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            sources.add(path)
            waiting += _imported(path)
    return sources


@cache
def _imported(path: Path) -> list[Path]:
    files = []
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        package, *parts = module.split(".")
        if package == "likeness":
            base = _ROOT.joinpath(*parts)
            modules = [base, *(base / name for name in re.findall(r"\w+", names))]
            files += [
                file for file in (module.with_suffix(".py") for module in modules) if file.is_file()
            ]
    return files


@contextlib.contextmanager
def _numba_cache_in(folder: Path | None) -> Iterator[None]:
    before = _config.CACHE_DIR
    _config.CACHE_DIR = "" if folder is None else str(folder)
    try:
        yield
    finally:
        _config.CACHE_DIR = before
