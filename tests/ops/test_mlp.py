"""Tables as whole numbers and small networks of many Gaussians, against plain PyTorch."""

import pytest
import torch
from torch import nn

from likeness.ops import quantization
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.mlp_cpu import LANES, ROWS


def make(count: int, codes: int, channels: int, sizes: list[int], seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    table = torch.randn(count, codes, channels, generator=g) * torch.logspace(-3, 2, codes)[:, None]
    widths = [channels, *sizes]
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in zip(widths, sizes)]
    start = torch.randn(count, widths[min(1, len(sizes))], generator=g)
    return table, start, layers


def exact(table, start, layers, codes):
    blended = torch.einsum("b,nbf->nf", codes.double(), table.double())
    if not layers:
        return start + blended
    x = start + blended @ layers[0].weight.double().T
    for layer in layers[1:]:
        x = x.relu() @ layer.weight.double().T + layer.bias.double()
    return x


def as_kept(table, encoding="int16"):
    """The table after rounding."""
    return quantization.decode(quantization.encode(table, encoding), encoding)


@pytest.mark.parametrize(
    "count, codes, channels, sizes",
    [
        (1, 1, 1, [1]),
        (LANES, 4, 3, []),
        (3 * LANES + 5, 7, 5, [ROWS - 1]),
        (41, 9, 16, [64, 64, 13]),
        (20, 3, 2, [5, 3]),
    ],
)
def test_equals_plain_arithmetic(count, codes, channels, sizes):
    table, start, layers = make(count, codes, channels, sizes)
    values = torch.rand(codes, generator=torch.Generator().manual_seed(1)) + 0.1
    with torch.no_grad():
        found = BlockedNetwork(table, start, layers)(values)
        expected = exact(as_kept(table), start, layers, values)
        unrounded = exact(table, start, layers, values)
    size = expected.abs().max()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 2e-6 * max(size, 1)
    assert (found - unrounded).abs().max() < 1e-4 * max(size, 1)  # what 16 bits cost


def test_codes_of_zero_are_not_read():
    table, start, layers = make(20, 6, 4, [])
    table[:, 2] = torch.nan
    clean = table.clone()
    clean[:, 2] = 0
    codes = torch.tensor([1.0, 0.5, 0.0, -1.0, 0.0, 2.0])
    found = BlockedNetwork(table, start)(codes)
    torch.testing.assert_close(found, BlockedNetwork(clean, start)(codes), rtol=0, atol=0)
    torch.testing.assert_close(BlockedNetwork(clean, start)(torch.zeros(6)), start, rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    table, start, layers = make(70, 8, 4, [16, 5])
    codes, before = torch.rand(8), torch.get_num_threads()
    expected = BlockedNetwork(table, start, layers)(codes)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(BlockedNetwork(table, start, layers)(codes), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sizes", [[], [8, 3]])
def test_what_was_stored_in_8_bits_is_kept_in_8_bits_and_loses_nothing(sizes):
    table, start, layers = make(3000, 6, 4, sizes)
    table = as_kept(table + 3, "int8")  # off-centre, as exports may be
    table[:, :, 1] = 0.25  # a channel that never changes
    codes = torch.randn(6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network, expected = BlockedNetwork(table, start, layers), exact(table, start, layers, codes)
        found = network(codes)
    assert network._table.itemsize == 1
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("row", [0, 2999])
def test_one_entry_between_the_steps_of_8_bits_is_enough_for_16(row):
    table, start, _ = make(3000, 6, 4, [])
    table = as_kept(table, "int8")
    table[row, 2, 3] += 0.3 * (table[:, 2, 3].amax() - table[row, 2, 3]) / 254
    assert BlockedNetwork(table, start)._table.itemsize == 2
