"""The bust's soft end: opacities outside of what the frames show."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.avatars import AvatarShape, TrainingStates
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.avatars.headgas import HeadGaS, HeadGaSConfig
from likeness.fitting.avatars.linear import Linear, LinearConfig
from likeness.fitting.avatars.rigged import Rigged, RiggedConfig
from likeness.fitting.fade import fade_border, outside, shares
from likeness.scene.seeds import Seeds
from tests import toys


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("fade"), frames=6, test=2)


def column(count: int = 60) -> Seeds:
    """Gaussians on a line downwards from the head to well below the image."""
    means = torch.zeros(count, 3)
    means[:, 1] = torch.linspace(0.0, -0.4, count)
    cloud = dataclasses.replace(toys.blob(count), means=means)
    return Seeds(cloud, torch.full((count,), 0.5), toys.rig(count))


def avatar_of(kind, config, capture):
    seeds = column()
    model = kind(config, AvatarShape(60, 52, 2, toys.RIG_VERTICES))
    states = capture.states[list(capture.train)]
    model.initialize(seeds, TrainingStates(states.expression, states.T_head_body))
    return model


KINDS = {
    "headgas": (HeadGaS, HeadGaSConfig(base_appearance=True)),
    "linear": (Linear, LinearConfig()),
    "rigged": (Rigged, RiggedConfig()),
}


def test_shares_fall_from_all_to_nothing():
    at = torch.tensor([-0.1, 0.0, 0.01, 0.02, 0.5])
    assert shares(at).tolist() == pytest.approx([1, 1, 0.5, 0, 0])


@pytest.mark.parametrize("name", KINDS)
def test_what_frames_show_stays_and_what_is_beyond_goes(capture, name):
    model = avatar_of(*KINDS[name], capture)
    beyond = outside(model, capture)
    assert beyond.min() < -0.05 and beyond.max() > 0.05  # the line leaves the image
    state, eye = capture.states[0].expressionless(), torch.tensor([0.0, 0.0, 0.9])
    before = model(state, eye).opacities.detach()
    fade_border(model, capture)
    after = model(state, eye).opacities.detach()
    torch.testing.assert_close(after[beyond <= 0], before[beyond <= 0])
    assert after[beyond > 0.02].max() < 1e-3
    edge = (beyond > 0.002) & (beyond < 0.018)
    assert edge.any()
    expected = before[edge] * shares(beyond[edge])
    torch.testing.assert_close(after[edge], expected, atol=0.03, rtol=0.1)


def test_distances_are_metres_at_the_gaussians_depth(capture):
    model = avatar_of(Rigged, RiggedConfig(anchoring=AnchoringConfig()), capture)
    beyond = outside(model, capture)
    means = model.per_gaussian["means"].detach()
    steps = beyond.diff()[beyond[1:] > 0]
    # straight down: a metre further down is about a metre further out
    torch.testing.assert_close(steps, -means[:, 1].diff()[beyond[1:] > 0], atol=5e-4, rtol=0.1)


def test_avatars_without_opacities_of_their_own_stay(capture):
    model = avatar_of(HeadGaS, HeadGaSConfig(), capture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fade_border(model, capture)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
