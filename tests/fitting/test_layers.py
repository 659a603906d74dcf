"""Networks by blocks of rows are the networks, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from likeness.fitting.avatars.headgas import _make_mlp
from likeness.fitting.avatars.layers import BLOCK_ROWS, apply_layers


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, BLOCK_ROWS, 2 * BLOCK_ROWS + 77])
def test_values_and_gradients_are_the_whole_networks(layers, count):
    torch.manual_seed(layers)
    mlp = _make_mlp(9, 8, layers, 5).double()
    nn.init.normal_(mlp[-1].weight)
    inputs = [torch.randn(count, size, dtype=torch.float64) for size in (4, 3, 2)]
    inputs[0].requires_grad_()
    inputs[2].requires_grad_()
    wanted = [inputs[0], inputs[2], *mlp.parameters()]
    weights = torch.randn(count, 5, dtype=torch.float64)
    results = [apply_layers(mlp, inputs), mlp(torch.cat(inputs, -1))]
    torch.testing.assert_close(*results)
    for a, b in zip(*(torch.autograd.grad((result * weights).sum(), wanted) for result in results)):
        torch.testing.assert_close(a, b)


def test_what_is_not_a_number_stays_so():
    mlp = _make_mlp(2, 3, 2, 2)
    found = apply_layers(mlp, [torch.tensor([[1.0, float("nan")], [1.0, 2.0]])])
    assert found[0].isnan().all() and found[1].isfinite().all()
