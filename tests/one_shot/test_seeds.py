"""The initializer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.config import FitConfig
from likeness.fitting.seedings import SEEDINGS
from likeness.one_shot import weights
from likeness.one_shot.seeds import chosen_frames
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig
from tests import toys
from tests.one_shot import tiny


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    capture = toys.make_capture(folder / "capture", frames=8, size=48, test=2)
    net = tiny.network()
    weights.save(folder / "one.safetensors", net.state_dict(), net.config, "anny", {})
    return capture, FrameStore(capture, capture.train), folder / "one.safetensors"


@pytest.mark.parametrize("count, sources", [(500, 1), (230, 3), (40, 1), (1, 1), (7, 2)])
def test_exactly_as_many_as_asked_for_and_never_at_one_place(toy, count, sources):
    capture, frames, path = toy
    seeds = SEEDINGS["one_shot"](
        capture, frames, SeedingConfig(count, weights=path, sources=sources), 0
    )
    means = seeds.cloud.means
    assert means.shape == (count, 3) and len(means.unique(dim=0)) == count
    assert (
        seeds.head_weights.shape == (count,)
        and 0 < seeds.head_weights.min() <= seeds.head_weights.max() < 1
    )
    assert seeds.rig.vertices.shape == seeds.rig.weights.shape == (count, 3)
    assert seeds.rig.shapes.shape == (52, tiny.VERTICES, 3)
    assert all(torch.isfinite(value).all() for value in seeds.cloud.fields().values())


def test_the_same_seed_gives_the_same_seeds(toy):
    capture, frames, path = toy
    config = SeedingConfig(230, weights=path)
    first, second = (
        SEEDINGS["one_shot"](capture, frames, config, 3).cloud.fields() for _ in range(2)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_sources_are_spread_over_yaw_and_calm(toy):
    capture, _, _ = toy
    train = list(capture.train)
    assert len(chosen_frames(capture, 3)) == 3 and len(chosen_frames(capture, 99)) == len(train)
    yaw = torch.asin(capture.states[train].T_world_head[:, 0, 2]).abs()
    calm = capture.states[train].expression.sum(-1)
    (one,) = chosen_frames(capture, 1)
    assert 0.15 * calm[train.index(one)] + yaw[train.index(one)] < 0.15 * calm.mean() + yaw.mean()


def test_a_fit_starts_from_it(toy):
    capture, frames, path = toy
    config = dataclasses.replace(
        FitConfig(), initializer="one_shot", seeds=SeedingConfig(120, weights=path)
    )
    avatar = loop.create_avatar(config, capture, frames, 0)
    assert avatar.num_gaussians == 120


def test_other_head_models_and_missing_weights_are_refused(toy, monkeypatch, tmp_path):
    capture, frames, path = toy
    foreign = dataclasses.replace(capture, head_model="flame")
    with pytest.raises(UserError, match="flame"):
        SEEDINGS["one_shot"](foreign, frames, SeedingConfig(10, weights=path), 0)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "one_shot.safetensors")
    with pytest.raises(UserError, match="one_shot.safetensors.*likeness train"):
        SEEDINGS["one_shot"](capture, frames, SeedingConfig(10), 0)
