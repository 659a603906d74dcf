"""The kernels for avatars: for which they are, what they give in Triton's interpreter, and that
they compile."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.playback.fused import fused, why_not
from likeness.playback.player import Player
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make

PLACED = dataclasses.replace(EXTENDED, pose_correction=False)
ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="the package triton is not installed (PyTorch's CUDA builds bring it)",
)


def test_what_there_are_no_kernels_for_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert all(why_not(make(kind, PLACED)) is None for kind in AVATARS)
    assert {kind for kind in AVATARS if why_not(make(kind)) is None} == {"linear"}
    assert "pose" in why_not(make("linear", EXTENDED)) and "pose" in why_not(
        make("headgas", EXTENDED)
    )
    assert "wider than 256" in why_not(make("linear", codes=256))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton is missing"):
        fused(make("linear", PLACED).compile(), toys.random_states(()), EYE)


@needs_triton
def test_interpreted_they_give_the_clouds_of_the_operations():
    tests = Path(__file__).with_name("interpreted_kernels.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        tests,
    ]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and "12 passed" in run.stdout, run.stdout + run.stderr


@needs_triton
def test_they_compile(monkeypatch, tmp_path):
    """To the code of a GPU, which Triton does not need for that."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from likeness.playback.fused.kernels.place import place_cloud, place_linear
    from likeness.playback.fused.kernels.state import read_state

    placing = {"SWAY": 92, "DEGREE": 1, "BLOCK": 128} | dict.fromkeys(
        ("RIGGED", "SWAYING", "TWO_FRAMES"), True
    )
    kernels = [
        (read_state, {"EXPRESSIONS": 52, "JOINTS": 2, "LAYERS": 3, "WIDTH": 128, "DEGREE": 1}, 8),
        (place_linear, placing | {"MOTION": True, "CHANGING": True}, 4),
        (place_cloud, placing, 4),
    ]
    for kernel, constants, warps in kernels:
        types = {"count": "i32", "stride": "i32", "vertices": "*i32"} | dict.fromkeys(
            constants, "constexpr"
        )
        names = [parameter.name for parameter in kernel.params]
        values = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(kernel, {name: types.get(name, "*fp32") for name in names}, values)
        made = triton.compile(
            source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}
        )
        assert len(made.asm["cubin"]) > 1000


@needs_triton
@pytest.mark.gpu
@pytest.mark.parametrize("kind", AVATARS)
def test_on_cuda_they_give_the_clouds_of_the_operations(kind):
    bundle = toys.bundle(make(kind, PLACED))
    players = [Player(bundle, "cuda", evaluation=name) for name in ("torch", "fused")]
    for seed in range(4):
        state = toys.random_states((), seed=seed).to("cuda")
        expected, found = (player.cloud(state, EYE.cuda()) for player in players)
        for name, value in found.fields().items():
            torch.testing.assert_close(
                value, expected.fields()[name], atol=1e-5, rtol=1e-5, msg=name
            )
