"""Evaluations on a device wait for nothing, so that they can be captured; where CUDA is, captured
ones are the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from likeness.fitting.avatars import AVATARS
from likeness.playback.evaluators import EVALUATION
from likeness.playback.graphs import GraphedAvatar
from likeness.playback.player import Player
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make

# : What makes the host wait for the device, or copies numbers of the host there: a capture takes
# neither.
WAITING = {
    "aten::lift_fresh",
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::is_nonzero",
    "aten::equal",
}


class NothingFromTheHost(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, results = function._schema.name, function(*args, **(kwargs or {}))
        assert name not in WAITING, name
        if isinstance(results, torch.Tensor) and name in ("aten::_to_copy", "aten::copy_"):
            given = args[1] if name == "aten::copy_" else args[0]
            assert given.device == results.device, f"{name} from {given.device}"
        return results


@pytest.mark.parametrize("kind", AVATARS)
def test_a_compiled_evaluation_takes_nothing_from_the_host(kind):
    """On PyTorch's device without memory, which takes the way of CUDA."""
    avatar = make(kind, EXTENDED).compile("meta")
    state, eye = toys.random_states(()).to("meta"), EYE.to("meta")
    with torch.no_grad():
        avatar(state, eye)  # constants are copied once
        with NothingFromTheHost():
            cloud = avatar(state, eye)
    assert cloud.means.device.type == "meta" and cloud.num_gaussians == 40


def test_what_waits_is_noticed():
    with NothingFromTheHost(), pytest.raises(AssertionError, match="lift_fresh"):
        torch.ones(3).new_tensor([1.0])


def test_graphs_need_cuda():
    for name in ("graph", "fused", "compiled", "unknown"):
        with pytest.raises(ValueError, match=f"evaluation of cpu, got '{name}'"):
            Player(toys.bundle(make("headgas")), evaluation=name)
    with pytest.raises(ValueError, match="on CUDA"):
        GraphedAvatar(make("headgas").compile(), toys.random_states(()), EYE)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", AVATARS)
def test_captured_clouds_are_the_same(kind):
    bundle = toys.bundle(make(kind, EXTENDED))
    plain, graphed = (
        Player(bundle, "cuda", evaluation="torch"),
        Player(bundle, "cuda", evaluation="graph"),
    )
    seen = []
    for seed in range(4):
        state = dataclasses.replace(toys.random_states((), seed=seed)).to("cuda")
        expected, found = (player.cloud(state, EYE.to("cuda")) for player in (plain, graphed))
        for name, value in found.fields().items():
            torch.testing.assert_close(
                value, expected.fields()[name], atol=1e-5, rtol=1e-5, msg=name
            )
        seen.append((found, {name: value.clone() for name, value in found.fields().items()}))
    for cloud, before in seen:  # a cloud stays what it was when others are made
        assert all(torch.equal(value, before[name]) for name, value in cloud.fields().items())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", AVATARS)
def test_players_on_cuda_choose_and_then_wait_for_nothing(kind):
    bundle = toys.bundle(make(kind, EXTENDED))
    player = Player(bundle, "cuda")
    assert "fails" not in player.choices[EVALUATION].reason
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in range(1, 4):
            player.cloud(bundle.recording[index], EYE)
    finally:
        torch.cuda.set_sync_debug_mode("default")
