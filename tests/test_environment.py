"""One set of packages in all files, locks that are whole and hold hashes, and the set-up's
decisions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.test_imports import ORDER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PYTHONS = ("3.10", "3.11", "3.12")
# what environment.yml and the locks hold besides the dependencies
CONDA_EXTRAS = ("cuda", "test")
LOCKED_EXTRAS = (*CONDA_EXTRAS, "dev", "docs")
LOCK, LOCK_CPU, LOCK_CUDA, LOCK_DEV = (
    ROOT / f"requirements{part}.lock" for part in ("", "-cpu", "-cuda", "-dev")
)
# Declared by packages of the lock, and left out of it: nothing here uses them.
LEFT_OUT = {"jax", "jaxlib", "sounddevice", "sentencepiece", "torchvision", "jaxtyping"}


def _normal(requirement: str) -> tuple[str, frozenset[str]]:
    parsed = Requirement(requirement)
    return canonicalize_name(parsed.name), frozenset(str(part) for part in parsed.specifier)


def _declared(chosen: tuple[str, ...]) -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return PROJECT["dependencies"] + [name for extra in chosen for name in extras[extra]]


def _lock_entries(*locks: Path) -> list[tuple[Requirement, list[str]]]:
    """Requirements of lock files, and what stands behind each."""
    text = "\n".join(lock.read_text() for lock in locks).replace("\\\n", " ")
    lines = (line.split("#")[0].split(" --") for line in text.splitlines())
    return [
        (Requirement(line.strip()), [option.strip() for option in options])
        for line, *options in lines
        if line
    ]


def _pins(python: str, *locks: Path) -> dict[str, str]:
    """Name to version of the locks (of all but LOCK_CPU unless given) for one Python."""
    pins: dict[str, str] = {}
    for line, _ in _lock_entries(*(locks or (LOCK, LOCK_CUDA, LOCK_DEV))):
        if line.marker is None or line.marker.evaluate({"python_version": python}):
            name = canonicalize_name(line.name)
            assert name not in pins, f"{name} is pinned twice for Python {python}"
            pins[name] = next(iter(line.specifier)).version
    return pins


def test_conda_environment_equals_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    from_pip = next(
        entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)
    )
    declared = _declared(CONDA_EXTRAS)
    assert {_normal(entry) for entry in from_pip} == {_normal(entry) for entry in declared}
    assert len(from_pip) == len(declared)
    assert _normal(plain[0]) == ("python", frozenset(PROJECT["requires-python"].split(",")))
    assert environment["name"] == PROJECT["name"] == "likeness"


def test_conda_environment_names_the_packages_of_the_project():
    text = (ROOT / "environment.yml").read_text()
    packages = (
        "torch gsplat geoopt kornia lpips opencv-contrib-python scikit-image tensorboard numpy"
    )
    for name in packages.split():
        assert re.search(rf"^ +- {name}[=><]", text, re.MULTILINE), name
    (tinycudann,) = PROJECT["optional-dependencies"]["tinycudann"]
    assert (
        f'pip install wheel "setuptools<81" && pip install --no-build-isolation "{tinycudann}"'
        in text
    )
    assert not re.search(r"^ +- opencv-python\b", text, re.MULTILINE), (
        "it overwrites opencv-contrib-python's files"
    )


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_what_is_declared(python):
    pins = _pins(python)
    for requirement in map(Requirement, _declared(LOCKED_EXTRAS)):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None and requirement.specifier.contains(pin), (
            f"{requirement}: locked at {pin}"
        )


def test_the_locks_hold_exact_versions_with_hashes_only():
    for line, options in _lock_entries(LOCK, LOCK_CPU, LOCK_CUDA, LOCK_DEV):
        assert [part.operator for part in line.specifier] == ["=="] and "*" not in str(
            line.specifier
        ), str(line)
        assert options and all(
            re.fullmatch("hash=sha256:[0-9a-f]{64}", option) for option in options
        ), str(line)


def test_the_locks_hold_one_version_of_torch_in_different_builds():
    ((cpu, cpu_hashes),) = _lock_entries(LOCK_CPU)
    ((other, other_hashes),) = [entry for entry in _lock_entries(LOCK) if entry[0].name == "torch"]
    assert str(cpu) == f"{other}+cpu" and not set(cpu_hashes) & set(other_hashes)


def test_the_lock_is_whole_and_holds_nothing_else():
    """Walks the requirements that the installed packages declare, from ours on."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pins, elsewhere = _pins(python), _pins(python, LOCK_CUDA, LOCK_DEV)
    waiting = [canonicalize_name(Requirement(entry).name) for entry in _declared(LOCKED_EXTRAS)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached or name in LEFT_OUT:
            continue
        reached.add(name)
        assert name in pins, f"{name} is needed, but not in the lock"
        if name in elsewhere:
            continue  # not installed everywhere
        try:
            declared = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here: not the environment of `make setup`")
        for requirement in map(Requirement, declared):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            cuda_library = name == "torch" and re.match("nvidia|cuda|triton", requirement.name)
            if needed and not cuda_library:
                child = canonicalize_name(requirement.name)
                waiting.append(child)
                assert child in LEFT_OUT or requirement.specifier.contains(
                    pins.get(child, "0"), prereleases=True
                ), f"{name} needs {requirement}, locked at {pins.get(child)}"
    assert set(pins) - reached - set(elsewhere) == set(), "in the lock, but nothing needs it"


@pytest.mark.skipif(
    not (Path(sys.prefix) / ".setup-done").exists(), reason="not the environment of `make setup`"
)
def test_what_is_installed_is_what_is_locked():
    for name, pin in _pins(f"{sys.version_info[0]}.{sys.version_info[1]}", LOCK).items():
        assert Version(importlib.metadata.version(name)).public == pin, name


# The set-up program


@pytest.fixture
def setup() -> ModuleType:
    """A fresh copy of tools/setup_environment.py."""
    spec = importlib.util.spec_from_file_location(
        "setup_environment", ROOT / "tools" / "setup_environment.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _record(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, installed: str, cpu_build: bool = True
) -> list[str]:
    """Replaces pip on Linux; ``cpu_build``: whether that of torch can be had. Returns the list of
    calls to come."""
    calls: list[str] = []

    def pip(_: Path, *arguments: str) -> bool:
        calls.append(" ".join(arguments).replace(f"{ROOT}{os.sep}", ""))
        return cpu_build or setup.CPU_WHEELS not in arguments

    monkeypatch.setattr(setup, "pip", pip)
    monkeypatch.setattr(setup, "install_project", lambda _: True)
    monkeypatch.setattr(setup, "installed_version", lambda *_: installed)
    monkeypatch.setattr(setup.subprocess, "call", lambda command: calls.append("uninstall") or 0)
    monkeypatch.setattr(setup, "locked_version", lambda _: "2.0")
    monkeypatch.setattr(setup, "check_imports", lambda _: None)
    monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
    return calls


CPU_TORCH = "--retries 1 --timeout 15 --index-url {} -r requirements-cpu.lock"
FOR_CPU, FOR_CUDA = "-r requirements.lock", "-r requirements.lock -r requirements-cuda.lock"


@pytest.mark.parametrize(
    "build, installed, cpu_build, expected",
    [
        pytest.param("cpu", "", True, [CPU_TORCH, FOR_CPU], id="no GPU: the CPU build"),
        pytest.param(
            "cpu", "1.9+cpu", True, ["uninstall", CPU_TORCH, FOR_CPU], id="a newer CPU build"
        ),
        pytest.param(
            "cpu",
            "",
            False,
            [CPU_TORCH, FOR_CUDA],
            id="none to be had: the registry's and its libraries",
        ),
        pytest.param("cpu", "2.0+cpu", True, [FOR_CPU], id="a CPU build stays"),
        pytest.param("cpu", "2.0", True, [FOR_CUDA], id="a CUDA build stays"),
        pytest.param(
            "cuda",
            "",
            True,
            [FOR_CUDA],
            id="a GPU: the registry's with its libraries and the toolkit",
        ),
        pytest.param("cuda", "2.0", True, [FOR_CUDA], id="a CUDA build stays on a GPU"),
        pytest.param(
            "cuda", "2.0+cpu", True, ["uninstall", FOR_CUDA], id="it replaces a CPU build"
        ),
    ],
)
def test_which_torch_is_installed(setup, monkeypatch, build, installed, cpu_build, expected):
    calls = _record(setup, monkeypatch, installed, cpu_build)
    setup.install(Path("python"), build)
    assert calls == [call.format(setup.CPU_WHEELS) for call in expected]


def test_pip_takes_only_wheels_of_locked_hashes(setup, monkeypatch):
    commands = []
    monkeypatch.setattr(setup.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(setup.subprocess, "call", lambda command: commands.append(command) or 0)
    assert setup.pip(Path("python"), "-r", "a.lock")
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(commands[0])


@pytest.mark.parametrize("compiler, said", [("", True), ("c++", False)])
def test_a_missing_compiler_is_said_where_kernels_are_compiled(
    setup, monkeypatch, capsys, compiler, said
):
    _record(setup, monkeypatch, "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(setup.shutil, "which", lambda name: compiler if name == compiler else None)
    setup.install(Path("python"), "cuda")
    assert ("C++ compiler" in capsys.readouterr().out) == said
    setup.install(Path("python"), "cpu")
    assert "C++ compiler" not in capsys.readouterr().out


def test_no_suitable_python_is_said_in_one_line(setup, monkeypatch, tmp_path, capsys):
    versions = {"python3": ((3, 9), True), "python3.12": ((3, 12), False)}
    monkeypatch.setattr(setup, "probe", lambda name: versions.get(name, (None, False)))
    monkeypatch.setattr(sys, "argv", ["setup", "--venv", str(tmp_path / "venv")])
    assert setup.main() == 2
    message = capsys.readouterr().err
    assert (
        message.startswith("error: Python 3.10, 3.11 or 3.12 is needed")
        and message.count("\n") == 1
    )
    assert "python3 is 3.9" in message and "python3.12 is 3.12 without venv" in message


def test_the_first_python_that_runs_and_suits_is_taken(setup, monkeypatch):
    versions = {
        "python3": ((3, 13), True),
        "python3.11": ((3, 11), True),
        "python3.10": ((3, 10), True),
    }
    monkeypatch.setattr(setup, "probe", lambda name: versions.get(name, (None, False)))
    assert setup.find_python() == "python3.11"


def test_probe_tells_the_version_of_what_runs(setup):
    assert setup.probe(sys.executable) == (sys.version_info[:2], True)
    assert setup.probe("no-such-python") == (None, False)


def test_a_folder_in_the_way_is_left_alone(setup, tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(setup.SetupError, match="in the way"):
        setup.venv_python(tmp_path)
    assert (tmp_path / "precious").exists()


def test_a_broken_environment_is_made_anew_even_if_its_removal_was_interrupted(
    setup, monkeypatch, tmp_path
):
    venv = tmp_path / "venv"
    (venv / "lib").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("")
    (venv / "lib64").symlink_to("lib")
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    monkeypatch.setattr(setup.subprocess, "call", lambda command: venv.mkdir() or 0)
    with monkeypatch.context() as broken:

        def interrupted(path: str) -> None:
            raise KeyboardInterrupt

        broken.setattr(setup.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup.venv_python(venv)
    assert (venv / "pyvenv.cfg").exists()
    setup.venv_python(venv)
    assert list(venv.iterdir()) == []


def test_an_environment_that_runs_is_kept(setup, monkeypatch):
    """One that was made by hand, without `make setup`, too: it is brought up to date in place."""
    monkeypatch.setattr(setup, "find_python", lambda: pytest.fail("made anew"))
    assert setup.venv_python(Path(sys.prefix)).exists()


@pytest.mark.parametrize(
    "error, unfinished", [(None, False), ("SetupError", False), (KeyboardInterrupt, True)]
)
def test_only_a_killed_set_up_makes_the_next_begin_anew(
    setup, monkeypatch, tmp_path, error, unfinished
):
    raised = getattr(setup, error) if isinstance(error, str) else error

    def install(*_: object) -> None:
        if raised:
            raise raised

    monkeypatch.setattr(setup, "venv_python", lambda venv: venv / "bin" / "python")
    monkeypatch.setattr(setup, "install", install)
    if raised:
        with pytest.raises(raised):
            setup.set_up(tmp_path, "cpu")
    else:
        setup.set_up(tmp_path, "cpu")
    assert (tmp_path / setup.UNFINISHED).exists() == unfinished


def test_a_killed_set_up_is_made_anew(setup, monkeypatch, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / "pyvenv.cfg").write_text("")
    assert setup.venv_python(tmp_path) == python
    (tmp_path / setup.UNFINISHED).touch()
    made = []
    monkeypatch.setattr(setup, "find_python", lambda: "python3")
    monkeypatch.setattr(setup.subprocess, "call", lambda command: made.append(command) or 0)
    setup.venv_python(tmp_path)
    assert len(made) == 1 and not python.exists()


# Files of the repository


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_target_lists_every_target():
    result = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    phony = (
        re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        .group(1)
        .split()
    )
    assert result.returncode == 0
    assert set(re.findall(r"^make ([\w-]+)", result.stdout, re.MULTILINE)) == set(phony) - {"help"}


def test_continuous_integration_checks_style_types_documentation_and_tests():
    program = ROOT / ".ci" / "run"
    assert os.access(program, os.X_OK)
    lines = program.read_text().splitlines()
    assert lines[-3:] == ["make lint", "make docs", "exec make test"]


def test_the_version_is_everywhere_the_same():
    version = PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    releases = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == version


def test_every_folder_is_installed():
    """`tool.setuptools` lists each folder with Python files of the packages, and no other."""
    listed, folders = (PYPROJECT["tool"]["setuptools"][key] for key in ("packages", "package-dir"))
    packages = {"likeness.configs"}
    for package, folder in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            packages.add(".".join([package, *inner]))
    assert sorted(listed) == sorted(packages)
    assert set(folders) == {"likeness", "likeness.configs"} | {
        f"likeness.{folder}" for folder in ORDER if folder != "likeness"
    }


def test_no_file_names_a_package_registry_or_a_machine():
    """Where packages come from is the user's configuration; paths of one machine help nobody."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    # not to find this line
    words = ("pypi" + ".org", "files.python" + "hosted", "/opt/" + "wheels", "/ro" + "ot/")
    forbidden = [word.encode() for word in words]
    found = []
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in (".safetensors", ".npz", ".png", ".jpg", ".mp4"):
            found += [(name, word) for word in forbidden if word in path.read_bytes()]
    assert found == []
