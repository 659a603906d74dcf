"""Preprocessing on a simulated CUDA device: photometric tracking, and the network that
mattes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.preprocess.matting.modnet import MODNetConfig, MODNetMatting, modnet_from_state_dict
from likeness.preprocess.photometric import problem as problem_module
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.photometric.problem import Problem
from likeness.preprocess.photometric.refinement import refine
from likeness.renderers import create
from tests import toys
from tests.preprocess.modnet_weights import synthetic_state_dict

QUICK = PhotometricConfig(size=32, num_gaussians=150, visits=8)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("capture"), frames=5, size=32, test=1)


def test_tracking_steps_are_those_of_the_cpu_and_wait_for_nothing(cuda, capture, monkeypatch):
    monkeypatch.setattr(problem_module, "_WARM_STEPS", 1)
    problems = {device: Problem(capture, QUICK, device) for device in ("cpu", "cuda")}
    renderers = {device: create("auto", device) for device in problems}
    for number in range(problems["cpu"].num_steps):
        expected = problems["cpu"].step(number, renderers["cpu"])
        cuda.refuses_waits = number > 0
        found = problems["cuda"].step(number, renderers["cuda"])
        cuda.refuses_waits = False
        assert float(found) == pytest.approx(float(expected), rel=0.05)
    there, here = (problems[device].states() for device in ("cuda", "cpu"))
    for name in ("secondary_motion", "expression"):
        assert not torch.equal(getattr(here, name), getattr(capture.states, name))
    torch.testing.assert_close(there.T_world_head.cpu(), here.T_world_head, atol=5e-3, rtol=0)


def test_tracking_goes_on_from_its_checkpoint(cuda, capture, tmp_path, monkeypatch):
    monkeypatch.setattr("likeness.preprocess.photometric.refinement._SAVE_EVERY_S", 0.0)
    step, path = Problem.step, tmp_path / "tracking.safetensors"

    def interrupted(self, number, renderer):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, renderer)

    monkeypatch.setattr(Problem, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refine(capture, QUICK, device="cuda", checkpoint=path, progress=False)
    numbers = []
    monkeypatch.setattr(
        Problem, "step", lambda self, number, r: (numbers.append(number), step(self, number, r))[1]
    )
    found = refine(capture, QUICK, device="cuda", checkpoint=path, progress=False)
    assert numbers[0] == 3 and found.frames[0].state.expression.device.type == "cpu"


def test_modnet_mattes_as_on_the_cpu(cuda):
    network, frames = (
        modnet_from_state_dict(synthetic_state_dict(), "synthetic"),
        np.random.default_rng(0),
    )
    picture = frames.integers(0, 255, (32, 32, 3), np.uint8)
    config = MODNetConfig(reference_size=32)
    here, there = (
        next(iter(MODNetMatting(network, d, config).mattes([picture])))[1] for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(here, there, atol=1e-4)
