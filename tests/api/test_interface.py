"""``import likeness``: quick, lazy, complete; fit and preprocess as functions."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import likeness
from tests import toys
from tests.preprocess import videos

SMALL = ["seeds.num_gaussians=300"]
ROOT = Path(__file__).resolve().parents[2]


def _python(code: str, python: str | Path = sys.executable, **kwargs) -> str:
    result = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, timeout=300, **kwargs
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_it_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import likeness; print(*set(sys.modules) - before)"
    )
    modules = set(_python(code).split())
    packages = {name.split(".")[0] for name in modules} - {"likeness"}
    assert packages <= set(sys.stdlib_module_names) and "likeness.scene" not in modules


@pytest.mark.parametrize("name", likeness.__all__)
def test_every_name_is_documented(name):
    value = getattr(likeness, name)
    assert callable(value) and value.__doc__ and name in dir(likeness)


def test_names_that_do_not_exist():
    with pytest.raises(ImportError, match="Avatr"):
        exec("from likeness import Avatr")


def test_the_version_is_the_installed_one():
    assert likeness.__version__ == importlib.metadata.version("likeness")


@pytest.mark.parametrize("first", ["", "import likeness.preprocess.video; "])
def test_preprocess_is_a_function_and_a_package(first):
    code = f"{first}from likeness import preprocess; from likeness.preprocess import cache; "
    code += "import likeness.preprocess.crop as crop; print(callable(preprocess), cache, crop)"
    assert _python(code).startswith("True")


def test_preprocess_refuses_what_is_no_video_of_a_person(tmp_path):
    video = tmp_path / "numbers.mp4"
    videos.write_video(video, videos.counting_images(40))
    for path, message in ((tmp_path / "no.mp4", "no.mp4"), (video, "no face was found")):
        with pytest.raises(likeness.UserError, match=message):
            likeness.preprocess(path, tmp_path / "capture", device="cpu", offline=True)


def test_a_fit_is_a_run_and_an_avatar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capture = toys.make_capture(tmp_path / "toy")
    avatar = likeness.fit(
        capture, "run", preset="headgas", overrides=SMALL, iterations=6, offline=True
    )
    for name in ("bundle/manifest.json", "metrics.json", "report.html", "run.json"):
        assert (tmp_path / "run" / name).is_file(), name
    assert avatar.render(avatar.state(jawOpen=1), size=24).shape == (24, 24, 3)
    with pytest.raises(likeness.UserError, match="not overwritten"):
        likeness.fit(tmp_path / "toy", "run")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"minutes": -1}, "minutes: expected a number above 0"),
        ({"iterations": 0}, "iterations: expected a number above 0"),
        ({"minutes": 1, "iterations": 1}, "minutes and iterations are both given"),
        ({"preset": "defualt"}, "defualt"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"overrides": ["schedule.batchh=2"]}, "batchh"),
    ],
)
def test_bad_arguments_of_fit(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        likeness.fit(tmp_path / "me.mp4", tmp_path / "run", **arguments)
    assert list(tmp_path.iterdir()) == []
