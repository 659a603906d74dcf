"""`pip install .` into a clean environment, used beside packages called `scene` and `tools`."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests import toys

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))]
OTHERS = {"benchmarks", "build", "examples", "tests", "tools"}


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment with likeness in it, and this one's packages beside it."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("needs pip")
    root = tmp_path_factory.mktemp("installed")
    source = root / "source"
    source.mkdir()
    for folder in [*FOLDERS, ROOT / "configs"]:
        if folder.name not in OTHERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder, source / folder.name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(root / "venv", with_pip=False)
    (packages,) = (root / "venv").glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared))
    python = root / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, source], check=True, timeout=300)
    shutil.rmtree(source)
    return python


def _run(command: list, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_is_used_beside_a_package_called_scene(python, tmp_path):
    for name in ("scene", "tools", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = True")
    toys.arkit_bundle().save(tmp_path / "run" / "bundle")
    code = """
import scene, tools, tests
from likeness import Avatar, preprocess, fit
import likeness
from likeness.head_models import HEAD_MODELS
assert scene.mine and tools.mine and tests.mine and "/venv/" in likeness.__file__
avatar = Avatar.load("run", "cpu")
print(avatar.state(smile=1).expression.shape, len(HEAD_MODELS["anny"]().faces) > 0)
"""
    assert _run([python, "-c", code], tmp_path) == "torch.Size([52]) True\n"


def test_the_command_and_the_data_are_there(python, tmp_path):
    command = python.with_name("likeness")
    assert "likeness COMMAND" in _run([command, "--help"], tmp_path)
    assert "schedule.batch" in _run([command, "fit", "--help-config"], tmp_path)
    (package,) = python.parents[1].glob("lib/python*/site-packages/likeness")
    present = {path.relative_to(package).as_posix() for path in package.rglob("*")}
    for name in ("configs/default.yaml", "export/web/index.html", "py.typed"):
        assert name in present
    for folder in FOLDERS:
        if folder.name in OTHERS | {"likeness"}:
            continue
        files = [path for path in folder.rglob("*") if path.is_file()]
        files = [path for path in files if "__pycache__" not in path.parts]
        names = {path.relative_to(ROOT).as_posix() for path in files}
        assert names - present == set(), folder.name
