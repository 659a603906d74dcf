"""A network and its parameter vector of tiny-cuda-nn are the same network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from likeness.fitting.networks import FusedMLP, Layout, UnsupportedNetwork, pack
from tests.fitting.networks import fake_tinycudann

SIZES = {
    "headgas": (59, 64, 64, 49),
    "opacity": (32, 64, 64, 65),
    "color": (67, 64, 64, 48),
    "one layer": (15, 15, 3),
    "unequal": (16, 7, 31, 20, 16),
    "widest": (5, 127, 1),
}


def make_network(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layer = nn.Linear(inputs, outputs)
        nn.init.normal_(layer.bias, std=0.5)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("rows", [1, 256, 300])
def test_the_packed_network_is_the_network(sizes, rows, monkeypatch):
    network, inputs = make_network(*sizes), torch.randn(rows, sizes[0])
    expected = network(inputs)
    parts = list(inputs.split([sizes[0] // 2, sizes[0] - sizes[0] // 2], 1))
    for precision, tolerance in ((torch.float32, 1e-5), (torch.half, 5e-3)):
        fake_tinycudann.install(monkeypatch, precision)
        found = FusedMLP(network)(parts)
        assert found.dtype == torch.float32 and not found.requires_grad
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert FusedMLP(network)([inputs[:0]]).shape == (0, sizes[-1])


def test_each_parameter_has_its_documented_place():
    """By hand: 2 inputs, 1 unit, 1 output, in the width 16, to which inputs and outputs are padded,
    too."""
    network = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    for value, parameter in zip((torch.tensor([[2.0, 3.0]]), 4.0, 5.0, 6.0), network.parameters()):
        nn.init.constant_(parameter, 0).data += value
    first, last = pack(network).view(2, 16, 16)
    wanted_first, wanted_last = torch.zeros(2, 16, 16).half()
    # weights, and the bias at the input that is 1
    wanted_first[0, :3] = torch.tensor([2.0, 3.0, 4.0])
    wanted_first[15, 2] = 1  # the unit that stays 1
    wanted_last[0, 0], wanted_last[0, 15] = 5, 6
    assert torch.equal(first, wanted_first) and torch.equal(last, wanted_last)


@pytest.mark.parametrize(
    "network, reason",
    [
        (nn.Linear(3, 3), "chain"),
        (nn.Sequential(nn.Linear(3, 3)), "no hidden layer"),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "chain"),
        (nn.Sequential(nn.Linear(3, 3), nn.SiLU(), nn.Linear(3, 3)), "part 1 is SiLU"),
        (
            nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3)),
            "part 0 has no biases",
        ),
        (nn.Sequential(nn.Linear(3, 128), nn.ReLU(), nn.Linear(128, 3)), "128 units"),
    ],
)
def test_what_cannot_be_exact_is_refused(network, reason):
    with pytest.raises(UnsupportedNetwork, match=reason):
        Layout.of(network)


def test_weights_beyond_half_precision_are_refused():
    network = make_network(3, 3, 3)
    with torch.no_grad():
        network[0].weight[1, 1] = 1e5
    pack(network, torch.float32)
    with pytest.raises(UnsupportedNetwork, match="not finite in float16"):
        pack(network)


def test_another_arrangement_is_noticed(monkeypatch):
    fake_tinycudann.install(monkeypatch, more_layers=1)
    with pytest.raises(UnsupportedNetwork, match="arranges them otherwise"):
        FusedMLP(make_network(3, 3, 3))
