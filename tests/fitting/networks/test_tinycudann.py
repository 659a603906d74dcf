"""The package itself, where it and CUDA are: what our stand-in says of it, and that avatars look
the same."""

from __future__ import annotations

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.networks import FusedMLP, NetworksConfig, why_not
from likeness.playback.player import Player
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make
from tests.fitting.networks.test_layout import SIZES, make_network

_MISSING = "no CUDA device" if not torch.cuda.is_available() else why_not("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("rows", [1, 256, 10_000])
def test_networks_are_the_same(sizes, rows):
    network, inputs = make_network(*sizes).cuda(), torch.randn(rows, sizes[0], device="cuda")
    fused = FusedMLP(network)
    with torch.no_grad():
        expected = network(inputs)
    difference = (fused([inputs]) - expected).abs().max() / expected.abs().max()
    print(f"{sizes}, {rows} rows: largest difference {difference:.2g} of the largest output")
    assert difference < 0.01


def test_the_choice_is_made():
    player = Player(toys.bundle(make("headgas")), "cuda", evaluation="torch")
    chosen = player.choices["mlp"]
    assert set(chosen.milliseconds) == {"torch", "tinycudann"}
    faster = chosen.milliseconds["tinycudann"] < chosen.milliseconds["torch"]
    assert (chosen.backend == "tinycudann") == faster


@pytest.mark.parametrize("evaluation", ["torch", "graph"])
@pytest.mark.parametrize("kind", AVATARS)
def test_avatars_look_the_same(kind, evaluation):
    bundle = toys.bundle(make(kind, EXTENDED))
    plain, fused = (
        Player(bundle, "cuda", evaluation=evaluation, networks=NetworksConfig(backend))
        for backend in ("torch", "tinycudann")
    )
    for seed in range(3):
        state = toys.random_states((), seed=seed).to("cuda")
        expected, found = (player.cloud(state, EYE.cuda()) for player in (plain, fused))
        torch.testing.assert_close(found.opacities, expected.opacities, atol=0.01, rtol=0)
        assert (found.sh - expected.sh).abs().max() < 0.02 * expected.sh.abs().max()
