"""The programs of examples/: each is short, and does what it says on a small avatar."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests import arkit, toys

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run")
    toys.arkit_bundle().save(folder / "bundle")
    return str(folder)


def test_they_are_five_and_short():
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lines) == 5 and max(lines.values()) < 30, lines


def test_fit_a_clip(tmp_path, monkeypatch):
    from likeness import runs

    module, fit = example("fit_a_clip"), runs.fit
    small = {"preset": "headgas", "overrides": ["seeds.num_gaussians=300"], "offline": True}
    monkeypatch.setattr(
        module, "fit", lambda video, run, minutes: fit(video, run, iterations=6, **small)
    )
    toys.make_capture(tmp_path / "capture")
    module.main(str(tmp_path / "capture"), str(tmp_path / "run"))
    assert Image.open(tmp_path / "run" / "smile.png").size == (512, 512)


def test_render_orbit(run, tmp_path):
    example("render_orbit").main(run, str(tmp_path / "a.mp4"), frames=3, size=32)
    assert (tmp_path / "a.mp4").stat().st_size > 0


def test_drive_by_csv(run, tmp_path):
    states, times = toys.performance(6)
    table = arkit.table(states, toys.arkit_bundle().expression_names, times, 60)
    take = arkit.write(tmp_path / "take.csv", table)
    example("drive_by_csv").main(run, str(take), str(tmp_path / "a.mp4"), size=32)
    assert (tmp_path / "a.mp4").stat().st_size > 0


def test_export_everywhere(run, tmp_path, monkeypatch, capsys):
    from likeness.export import codes, distil

    monkeypatch.setitem(distil.distil.__kwdefaults__, "states", 200)
    for module in (codes, distil):
        monkeypatch.setattr(module, "CODER_STEPS", 300)
    example("export_everywhere").main(run, str(tmp_path / "out"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"surprise.ply", "surprise.spz", "speaking", "page"}
    assert "Gaussians" in capsys.readouterr().out


def test_expression_sheet(run, tmp_path):
    example("expression_sheet").main(run, str(tmp_path / "sheet.png"), size=32)
    assert Image.open(tmp_path / "sheet.png").size == (128, 96)


def test_they_run_as_programs(run, tmp_path):
    command = [sys.executable, EXAMPLES / "expression_sheet.py", run, tmp_path / "sheet.png"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
