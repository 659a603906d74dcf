"""What packages need that compile their CUDA code when they are first used: ninja, a CUDA toolkit,
a C++ compiler.

PyTorch's builder of extensions looks for ninja on PATH alone, where a virtual environment's is not
unless it was activated, and for a toolkit in CUDA_HOME, on PATH and in /usr/local/cuda. A driver
brings no toolkit, but the package registry has one as wheels, which this module puts where the
builder looks. And it lets one process build at a time: two destroy each other's work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from likeness.scene.errors import UserError
from likeness.scene.files import held

log = logging.getLogger(__name__)

TOOLKIT_WHEELS = "nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl"
"""The toolkit's parts that PyTorch's own CUDA build does not bring along: 102 MB."""
_GIB_PER_JOB = 1.5  # measured: 0.8 for the largest of gsplat's sources, for one architecture
_MAX_REASON = 300  # characters of a compiler's message that are shown


@contextlib.contextmanager
def building(package: str, who: str) -> Iterator[None]:
    """Inside, an importable package may compile its CUDA code, or load what it compiled before: one
    process at a time, with as many jobs as cores and memory allow.

    who: what the messages begin with. Raises UserError where a tool is missing, or where what is
        inside fails.
    """
    # it was not compiled when it was installed
    if importlib.util.find_spec(f"{package}.csrc") is None:
        provide_tools(who)
    log.info("preparing the CUDA code of %s (compiled once, about a minute)", package)
    try:
        with _alone(package), _limited_jobs():
            yield
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        log.debug("building %s", package, exc_info=True)
        raise UserError(
            f"{who}: the CUDA code of {package} cannot be compiled or run ({_reason(error)}); "
            "its compiler and CUDA toolkit must fit PyTorch's; or choose --device cpu"
        ) from error


def provide_tools(who: str) -> None:
    """Sets PATH, CUDA_HOME and, for a toolkit of wheels, CPATH and LIBRARY_PATH of this process so
    that PyTorch's builder finds its tools. Raises UserError that names all that are missing, and
    what brings them."""
    missing, remedies = [], []
    if not _find_ninja():
        missing.append("ninja")
        remedies.append("`pip install ninja`")
    if sys.platform == "linux":  # elsewhere the builder's own search has to do
        refused = _find_toolkit()
        if refused is not None:
            missing.append(f"a CUDA {_cuda_major()} toolkit{refused}")
            version = ".".join((torch.version.cuda or "13.0").split(".")[:2])
            wheels = " ".join(f"{name}=={version}.*" for name in TOOLKIT_WHEELS)
            remedies.append(f"`make setup TORCH=cuda` or `pip install {wheels}` (102 MB)")
        compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
        if shutil.which(compiler) is None:
            missing.append(f"a C++ compiler ({compiler})")
            remedies.append("the system's package g++ (about 200 MB)")
    if missing:
        raise UserError(
            f"{who}: to compile its CUDA code it lacks {' and '.join(missing)}; "
            f"install {', and '.join(remedies)}; or choose --device cpu"
        )


def _find_ninja() -> bool:
    """Whether there is a ninja, whose folder is on PATH afterwards."""
    if shutil.which("ninja"):
        return True
    # Wheels put programs beside the interpreter; with --target into a folder of their own.
    beside = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    for folder in [*beside, *(Path(entry) / "bin" for entry in sys.path if entry)]:
        if shutil.which("ninja", path=str(folder)):
            _prepend("PATH", folder)
            return True
    return False


def _find_toolkit() -> str | None:
    """None, and the environment set, where a toolkit of PyTorch's CUDA version is there; else why
    those that were found do not do, as the end of a clause."""
    refused = []
    for home in _installed_homes():
        version = _version([home])
        if not (home / "bin" / "nvcc").is_file() or version is None:
            if home in _named_homes():
                refused.append(f"{home} has no bin/nvcc with its headers")
        elif version[0] != _cuda_major():
            refused.append(f"{home} is of CUDA {version[0]}.{version[1]}")
        else:
            _use(home, [home])
            return None
    folders = _wheel_folders()
    for home in folders:
        if (home / "bin" / "nvcc").is_file() and (home / "nvvm" / "bin" / "cicc").is_file():
            absent = [name for name in _HEADERS if _header(folders, name) is None]
            if not absent:
                _use(home, folders)
                return None
            refused.append(f"the wheels in {home} lack {', '.join(absent)}")
    return f" ({'; '.join(refused)})" if refused else " (nvcc)"


# One of each wheel that compiling needs: of the runtime, which PyTorch brings, of crt and of cccl.
_HEADERS = "cuda_runtime.h", "crt/host_config.h", "cub/cub.cuh"


def _installed_homes() -> list[Path]:
    """Where a toolkit may lie that somebody installed, in the order in which they are taken."""
    nvcc = shutil.which("nvcc")
    return [
        *_named_homes(),
        *([Path(nvcc).resolve().parents[1]] if nvcc else []),
        Path("/usr/local/cuda"),
    ]


def _named_homes() -> list[Path]:
    return [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]


def _wheel_folders() -> list[Path]:
    """``nvidia/cu13`` of every folder of packages that has it: a toolkit's wheels may be spread
    over several."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [folder for place in places if (folder := Path(place) / f"cu{_cuda_major()}").is_dir()]


def _cuda_major() -> int:
    """Of the CUDA that PyTorch was built with."""
    return int((torch.version.cuda or "13").split(".")[0])


def _header(folders: list[Path], name: str) -> Path | None:
    paths = (folder / "include" / part / name for folder in folders for part in ("", "cccl"))
    return next((path for path in paths if path.is_file()), None)


def _version(folders: list[Path]) -> tuple[int, int] | None:
    """Major and minor of the toolkit whose headers lie there; None where there are none."""
    path = _header(folders, "cuda.h")
    if path is None or _header(folders, "cuda_runtime.h") is None:
        return None
    match = re.search(
        r"#define\s+CUDA_VERSION\s+(\d+)", path.read_text(encoding="utf-8", errors="replace")
    )
    return None if match is None else divmod(int(match[1]) // 10, 100)


def _use(home: Path, folders: list[Path]) -> None:
    """Makes ``home`` the toolkit, with headers and libraries of the other folders."""
    os.environ["CUDA_HOME"] = str(home)
    _prepend("PATH", home / "bin")
    builder: Any = sys.modules.get("torch.utils.cpp_extension")
    if builder is not None:  # it has looked already, when it was imported
        builder.CUDA_HOME = str(home)
    for folder in folders:
        if folder != home:
            _prepend("CPATH", folder / "include" / "cccl")
            _prepend("CPATH", folder / "include")
    libraries = [folder / name for folder in folders for name in ("lib64", "lib")]
    if any((folder / "libcudart.so").exists() for folder in libraries):
        return
    # Wheels name the library with its version, linkers ask for it without: a link, not in a folder
    # that pip owns.
    runtime = next((p for folder in libraries for p in sorted(folder.glob("libcudart.so.*"))), None)
    if runtime is not None:
        _prepend("LIBRARY_PATH", _linked(runtime))


def _linked(library: Path) -> Path:
    """A folder with a link ``libcudart.so`` to the library."""
    folder = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "likeness"
        / f"cuda{_cuda_major()}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".libcudart.so.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(library.resolve())
    fresh.replace(folder / "libcudart.so")
    return folder


def _prepend(variable: str, folder: Path) -> None:
    before = os.environ.get(variable)
    if before is None or str(folder) not in before.split(os.pathsep):
        os.environ[variable] = str(folder) if not before else f"{folder}{os.pathsep}{before}"


def _alone(package: str) -> contextlib.AbstractContextManager[None]:
    """Inside, no other process of this user builds the package: its build folder is emptied by
    whoever begins."""
    from torch.utils import cpp_extension

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    return held(root / f"{package}.building", f"another process compiles {package}", wait=True)


@contextlib.contextmanager
def _limited_jobs() -> Iterator[None]:
    """Inside, MAX_JOBS says how many sources are compiled side by side, unless the user has said
    it."""
    if os.environ.get("MAX_JOBS"):
        yield
        return
    os.environ["MAX_JOBS"] = str(_max_jobs())
    try:
        yield
    finally:
        os.environ.pop("MAX_JOBS", None)


def _max_jobs() -> int:
    """One to a core, as far as the memory reaches."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, int(_available_gib() / _GIB_PER_JOB)))


def _available_gib() -> float:
    """Memory that this process may still take: the machine's, or what its control group has
    left."""
    amounts = []
    with contextlib.suppress(OSError, IndexError):
        match = re.search(
            r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE
        )
        amounts += [int(match[1]) / 2**20] if match else []
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        amounts.append((limit - used) / 2**30)
    return max(min(amounts, default=4 * _GIB_PER_JOB), 0.0)


def _reason(error: BaseException) -> str:
    """The first line that says what is wrong: compilers' messages are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    telling = [
        line
        for line in lines
        if re.search(r"\berror\b", line, re.IGNORECASE) and "Error building" not in line
    ]
    return (telling or lines)[0][:_MAX_REASON]
