"""Blends of per-Gaussian bases."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.blend import blend, blend_by_code


@pytest.mark.parametrize("count, codes, size", [(1, 1, 1), (50, 52, 32), (7, 3, 5), (0, 4, 4)])
def test_blends_are_matrix_products(count, codes, size):
    g = torch.Generator().manual_seed(count)
    basis, e = torch.randn(count, codes, size, generator=g), torch.randn(codes, generator=g)
    torch.testing.assert_close(blend(basis, e), torch.matmul(e, basis), rtol=1e-5, atol=1e-5)
    assert blend(basis.double(), e.double()).dtype == torch.float64


@pytest.mark.parametrize("codes", [1, 4, 11])
def test_blends_by_code_skip_what_is_zero(codes):
    g = torch.Generator().manual_seed(codes)
    table, e = torch.randn(codes, 9001, generator=g), torch.randn(codes, generator=g)
    e[1::3] = 0
    torch.testing.assert_close(blend_by_code(table, e), e @ table, rtol=1e-5, atol=1e-5)
    assert not blend_by_code(table, torch.zeros(codes)).any()
