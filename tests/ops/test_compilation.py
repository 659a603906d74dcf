"""Where compiled kernels are kept, and what makes them be compiled anew."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

from likeness.ops import compilation
from tests.test_imports import ORDER, ROOT

FILES = {
    "scene/used.py": "import math\n",
    "scene/numbers.py": "SIZE = 8\n",
    "renderers/layout.py": "from likeness.scene.numbers import SIZE\n",
    "scene/kernels.py": "from math import pi\nfrom likeness.scene import used as u, absent\n"
    "from likeness.renderers.layout import (\n    SIZE,\n)\n",
}


@pytest.fixture
def project(monkeypatch, tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(compilation, "_ROOT", tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for function in (
        compilation._cache_folder,
        compilation._imported,
        compilation._warn_of_no_folder,
    ):
        function.cache_clear()


def folder(project: Path) -> Path:
    _forget()
    return compilation._cache_folder(project / "scene" / "kernels.py")


def test_all_that_is_imported_counts(project):
    found = compilation._with_imports(project / "scene" / "kernels.py")
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

        @compilation.kernel()
        def add(a, b):
            return a + b

        @compilation.kernel()
        def subtract(a, b):
            return a - b

    assert add(1, 2) == 3 and subtract(3, 1) == 2
    assert len(caplog.records) == 1 and "NUMBA_CACHE_DIR" in caplog.text


# The same bits from a kernel that has just been compiled and from one that is loaded


def test_helpers_are_inlined_into_their_kernels(project):
    """One that were a function of its own would be shared by all kernels of a process, whichever
    came first."""

    @compilation.helper()
    def weigh(a, b, out):
        total = a.dtype.type(0)
        for i in range(out.shape[0]):
            out[i] = a[i] * b[i] - total
            total += abs(out[i] * a[i] - b[i])
        for i in range(out.shape[0] - 2):
            out[i] = (out[i] * b[i + 1] + a[i]) / (b[i] * b[i] + total)
            total += abs(out[i] * a[i + 2] - b[i]) + out[i + 1] * b[i + 2]
        return total

    @compilation.kernel()
    def sums(a, b, out):
        return weigh(a, b, out) + weigh(b, a, out) + weigh(a, out, b) + weigh(b[1:], a[1:], out[1:])

    a, b, out = np.random.default_rng(0).random((3, 20), np.float32)
    assert np.isfinite(sums(a, b, out))
    (code,) = sums.inspect_llvm().values()
    assert "weigh" in code and not re.findall(r"call [^\n]*@[^\n(]*weigh[^\n]*", code)


def test_kernels_call_helpers_and_no_other_kernels():
    kernels, calls = set(), {}
    for path in (path for folder in ORDER for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorators = {getattr(getattr(d, "func", d), "id", "") for d in node.decorator_list}
                if decorators & {"kernel", "helper", "inlined"}:
                    called = {
                        getattr(c.func, "id", "") for c in ast.walk(node) if isinstance(c, ast.Call)
                    }
                    calls[f"{path.name}: {node.name}"] = called
                if "kernel" in decorators:
                    kernels.add(node.name)
    assert len(kernels) > 30
    assert {name: called & kernels for name, called in calls.items() if called & kernels} == {}


@pytest.mark.slow
def test_compiled_and_loaded_kernels_give_the_same_bits(tmp_path):
    """In processes of their own, the first with an empty folder of compiled code."""
    program = """
import hashlib, json, torch
from likeness.ops import adam, adam_cpu, image_loss
g = torch.Generator().manual_seed(0)
rgb, alpha, colour, matte = (torch.rand(40, 57, n, generator=g) for n in (3, 1, 3, 1))
weights = {"l1": 0.8, "dssim": 0.2, "matte": 0.1}
loss = image_loss.image_loss(
    rgb.requires_grad_(), alpha.requires_grad_(), colour, matte, torch.rand(3, generator=g), weights
)
loss.total.backward()
values, first, second, gradient = torch.rand(4, 1001, generator=g)
values.grad = gradient
optimizer = adam.Adam([{"params": [values]}], eps=1e-8)
optimizer.state_of(values).update(exp_avg=first, exp_avg_sq=second)
optimizer.step()
results = loss.total, rgb.grad, alpha.grad, values, first, second
hits = sum(adam_cpu.update.stats.cache_hits.values())
digests = [hashlib.sha256(t.detach().numpy().tobytes()).hexdigest() for t in results]
print(json.dumps([hits, digests]))
"""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    (compiled, bits), (loaded, again) = (
        json.loads(
            subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=environment)
        )
        for _ in range(2)
    )
    assert (compiled, loaded) == (0, 1)
    assert again == bits
