"""Where compiled kernels are kept, and what makes them be compiled anew."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numba
import pytest

from scene import compiling

FILES = {
    "scene/used.py": "import math\n",
    "scene/numbers.py": "SIZE = 8\n",
    "renderers/layout.py": "from scene.numbers import SIZE\n",
    "scene/kernels.py": "from math import pi\nfrom scene import used as u, absent\n"
    "from renderers.layout import (\n    SIZE,\n)\n",
}


@pytest.fixture
def project(monkeypatch, tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(compiling, "_ROOT", tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for function in (compiling._cache_folder, compiling._imported, compiling._warn_of_no_folder):
        function.cache_clear()


def folder(project: Path) -> Path:
    _forget()
    return compiling._cache_folder(project / "scene" / "kernels.py")


def test_all_that_is_imported_counts(project):
    found = compiling._with_imports(project / "scene" / "kernels.py")
    assert found == {project / name for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_a_change_of_any_source_is_another_folder(project, name):
    before = folder(project)
    assert before.parent == project / "cache" and before.is_dir() and folder(project) == before
    (project / name).write_text(FILES[name] + "# changed\n")
    assert folder(project) != before


def test_another_numba_is_another_folder(project, monkeypatch):
    before = folder(project)
    monkeypatch.setattr(numba, "__version__", "another")
    assert folder(project) != before


def test_no_place_for_compiled_code(project, monkeypatch, caplog):
    def refuse(**_):
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with caplog.at_level(logging.WARNING):

        @compiling.kernel()
        def add(a, b):
            return a + b

        @compiling.kernel()
        def subtract(a, b):
            return a - b

    assert add(1, 2) == 3 and subtract(3, 1) == 2
    assert len(caplog.records) == 1 and "NUMBA_CACHE_DIR" in caplog.text
