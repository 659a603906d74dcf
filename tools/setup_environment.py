"""Makes the virtual environment from the lock files: `python3 tools/setup_environment.py --venv
.venv`.

Standard library only, and nothing newer than Python 3.7, so that an old interpreter too can say
which one is wanted. An existing environment is brought up to date in place; one whose Python is
missing or unsuited, or whose set-up was killed (a package may be there in part), is made anew.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
LOCK_CPU = ROOT / "requirements-cpu.lock"  # the CPU build of torch, on Linux
# what the CUDA build of torch needs, and what compiles for it
LOCK_CUDA = ROOT / "requirements-cuda.lock"
# for style, types and documentation: installed by `make lint` and `make docs`
LOCK_DEV = ROOT / "requirements-dev.lock"
SUPPORTED = ((3, 10), (3, 11), (3, 12))
PYTHONS = ("python3", "python3.12", "python3.11", "python3.10", "python")
UNFINISHED = ".setup-unfinished"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"

# What usually misses on a bare Linux server: OpenCV's wheel leaves these to the system.
_SYSTEM_LIBRARIES = {"libGL": "libgl1", "libgthread": "libglib2.0-0", "libglib": "libglib2.0-0"}


class SetupError(Exception):
    """What the person at the keyboard has to mend, in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Installs the pinned packages into a virtual environment."
    )
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv",
        help="folder of the environment (default: .venv)",
    )
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="build of PyTorch on Linux; auto is cuda where an NVIDIA driver is (default: auto)",
    )
    arguments = parser.parse_args()
    try:
        set_up(arguments.venv, arguments.torch)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped; the same command begins again (what is downloaded is kept)", file=sys.stderr
        )
        return 130
    return 0


def set_up(venv: Path, torch_build: str) -> None:
    """Makes or updates the environment, and proves that its native libraries load."""
    start = time.monotonic()
    python = venv_python(venv)
    unfinished = venv / UNFINISHED
    unfinished.touch()
    try:
        install(python, torch_build)
    # pip ended by itself: what it installed is whole, and the next run goes on from there
    except SetupError:
        unfinished.unlink()
        raise
    unfinished.unlink()
    say(f"set up in {time.monotonic() - start:.0f} s: {venv}")


def install(python: Path, torch_build: str) -> None:
    """Installs torch and the rest, every file by its hash, and loads what has native libraries."""
    if torch_build == "auto":
        torch_build = "cuda" if has_nvidia_driver() else "cpu"
    # with torch: the one build there is elsewhere; on Linux the CUDA build, unless another is in
    # place
    locks = [LOCK]
    if platform.system() == "Linux" and not has_cpu_torch(python, torch_build):
        locks.append(LOCK_CUDA)
    say(f"installing the packages of {' and '.join(lock.name for lock in locks)} ...")
    if not pip(python, *(word for lock in locks for word in ("-r", str(lock)))):
        raise SetupError(
            "the packages could not be installed (see above); mend that, then `make setup` again"
        )
    say("installing likeness itself, editable ...")
    if not install_project(python):
        raise SetupError("likeness itself could not be installed (see above)")
    check_imports(python)
    if LOCK_CUDA in locks and not has_compiler():
        say(
            "note: gsplat compiles its kernels at first use and finds no C++ compiler here; "
            "install one, on Debian and Ubuntu: apt install g++"
        )


def venv_python(venv: Path) -> Path:
    """The interpreter of the environment, which is made where it is missing or does not run."""
    python = (
        venv
        / ("Scripts" if os.name == "nt" else "bin")
        / ("python.exe" if os.name == "nt" else "python")
    )
    if python.exists() and not (venv / UNFINISHED).exists() and probe(str(python))[0] in SUPPORTED:
        return python
    if venv.exists():
        if any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
            raise SetupError(
                f"{venv} is in the way: it is no virtual environment; move it elsewhere"
            )
        say(f"{venv} is incomplete or of another Python; making it anew")
        remove_environment(venv)
    interpreter = find_python()
    say(f"making {venv} with {interpreter} ...")
    if subprocess.call([interpreter, "-m", "venv", str(venv)]) != 0:
        raise SetupError(f"{interpreter} -m venv {venv} failed (see above)")
    return python


def remove_environment(venv: Path) -> None:
    """Removes an environment, the file that marks it as one last: a removal that is interrupted can
    be repeated."""
    for entry in venv.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        elif entry.name != "pyvenv.cfg":
            entry.unlink()
    shutil.rmtree(str(venv))


def find_python() -> str:
    """The first interpreter of PYTHONS that is supported and can make environments."""
    unsuited = []
    for name in PYTHONS:
        version, can_make_venvs = probe(name)
        if version in SUPPORTED and can_make_venvs:
            return name
        if version:
            reason = (
                "" if can_make_venvs else " without venv: on Debian and Ubuntu install python3-venv"
            )
            unsuited.append(f"{name} is {version[0]}.{version[1]}{reason}")
    raise SetupError(
        "Python 3.10, 3.11 or 3.12 is needed; install one so that python3.12, say, starts it "
        f"(found: {'; '.join(unsuited) or 'none'})"
    )


def probe(python: str) -> tuple[tuple[int, int] | None, bool]:
    """(major, minor) of an interpreter, or None where it does not run, and whether it can make
    environments."""
    code = "import sys; print(*sys.version_info[:2]); import venv, ensurepip; print('venv')"
    try:
        result = subprocess.run(
            [python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None, False
    words = result.stdout.decode().split()
    if len(words) < 2:
        return None, False
    return (int(words[0]), int(words[1])), words[-1] == "venv"


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA driver: its tool or its entry in /proc."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def has_compiler() -> bool:
    """Whether there is the C++ compiler that PyTorch's builder of extensions calls."""
    return shutil.which((os.environ.get("CXX") or "c++").split()[0]) is not None


def has_cpu_torch(python: Path, build: str) -> bool:
    """Whether the environment has the CPU build of torch, which is installed where it is wanted and
    can be had.

    It is of PyTorch's own index or of any configured source of wheels; the package registry holds
    the CUDA build for Linux. A CUDA build of the locked version that is there already stays; where
    that is wanted, a CPU build goes.
    """
    version, installed = locked_version("torch"), installed_version(python, "torch")
    if build == "cpu" and installed.split("+")[0] == version:
        return "+cpu" in installed
    # pip holds 2.x+cpu and 2.x for the same
    if installed and (build == "cpu" or "+cpu" in installed):
        subprocess.call([str(python), "-m", "pip", "uninstall", "-q", "-y", "torch"])
    if build == "cuda":
        return False
    say(f"installing torch {version} (CPU build) ...")
    # do not keep people waiting who cannot reach that index
    quick = ("--retries", "1", "--timeout", "15")
    if pip(python, *quick, "--index-url", CPU_WHEELS, "-r", str(LOCK_CPU)):
        return True
    say(
        "no CPU build could be had; taking the registry's, "
        "which on Linux brings gigabytes of CUDA libraries ..."
    )
    return False


def locked_version(name: str) -> str:
    """The version that the lock file gives a package that has one line there."""
    match = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise SetupError(f"{LOCK} has no line for {name}")
    return match.group(1)


def installed_version(python: Path, name: str) -> str:
    """The version of an installed package, "" where it is missing; without importing it."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return (
        subprocess.run([str(python), "-c", code, name], capture_output=True).stdout.decode().strip()
    )


def pip(python: Path, *arguments: str) -> bool:
    """`pip install` of wheels whose hashes are locked: with progress on a terminal, else silent but
    for errors."""
    hashes = ["--require-hashes", "--only-binary=:all:"]
    return _pip(python, "--no-deps", *hashes, *arguments)


def install_project(python: Path) -> bool:
    """This checkout as the package `likeness`, editable: what is changed here is what runs."""
    return _pip(python, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def _pip(python: Path, *arguments: str) -> bool:
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += arguments
    if sys.stdout.isatty():
        return subprocess.call(command) == 0
    result = subprocess.run([*command, "-qq"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        say(result.stdout.decode(errors="replace").strip())
    return result.returncode == 0


def check_imports(python: Path) -> None:
    """Loads the packages with native libraries; a missing system library is named with its
    remedy."""
    result = subprocess.run([str(python), "-c", "import torch, cv2"], capture_output=True)
    if result.returncode == 0:
        return
    last_line = (result.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    for library, package in _SYSTEM_LIBRARIES.items():
        if library in last_line:
            last_line += (
                f"; install the system's package, on Debian and Ubuntu: apt install {package}"
            )
            break
    raise SetupError(f"the environment does not load: {last_line}")


def say(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
