"""Lookups in planes: the kernels against bilinear interpolation written out, values and
gradients."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.planes import AXES, look_up


def written_out(levels, points, shared):
    """One point, one part of the channels at a time, in float64."""
    rows, num_groups = [], points.shape[1]
    for number, point in enumerate(points.flatten(0, 1)):
        group = 0 if shared else number % num_groups
        total = 0
        for level in levels:
            product = 1
            last, size = level.shape[1] - 1, level.shape[-1] // num_groups
            for plane, axes in zip(level, AXES):
                at = ((point[list(axes)] + 1) / 2 * last).clamp(0, last)
                low = at.detach().floor().long().clamp(max=max(last - 1, 0))
                high = (low + 1).clamp(max=last)
                u, v = at - low
                part = plane[..., group * size : (group + 1) * size]
                top = (1 - v) * part[low[0], low[1]] + v * part[low[0], high[1]]
                bottom = (1 - v) * part[high[0], low[1]] + v * part[high[0], high[1]]
                product = product * ((1 - u) * top + u * bottom)
            total = total + product
        rows.append(total)
    return torch.stack(rows).unflatten(0, points.shape[:2])


def scene(seed, num_groups):
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.rand(3, r, r, 8, generator=generator, dtype=torch.float64) for r in (1, 2, 5, 9)
    ]
    # some beyond the box
    points = torch.rand(20, num_groups, 3, generator=generator, dtype=torch.float64) * 3 - 1.5
    weights = torch.randn(20, num_groups, 8 // num_groups, generator=generator, dtype=torch.float64)
    return levels, points, weights


def gradients(function, levels, points, weights, shared=False):
    wanted = [
        points.detach().requires_grad_(),
        *(level.detach().requires_grad_() for level in levels),
    ]
    values = function(wanted[1:], wanted[0], shared)
    return [values.detach(), *torch.autograd.grad((values * weights).sum(), wanted)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernels", "grid_sample"])
@pytest.mark.parametrize("num_groups", [1, 2, 8])
@pytest.mark.parametrize("shared", [False, True], ids=["own parts", "shared"])
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients(dtype, num_groups, shared, seed):
    levels, points, weights = scene(seed, num_groups)
    expected = gradients(written_out, levels, points, weights, shared)
    found = gradients(
        look_up, [level.to(dtype) for level in levels], points.to(dtype), weights.to(dtype), shared
    )
    tolerance = 2e-4 if dtype == torch.float32 else 1e-10
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, atol=tolerance, rtol=tolerance)


def test_threads_change_nothing():
    levels, points, weights = scene(0, 4)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            single = [level.float() for level in levels]
            results.append(gradients(look_up, single, points.float(), weights.float()))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results):
        assert a.equal(b)


def test_points_that_are_no_numbers_harm_nobody():
    levels, points, weights = scene(0, 4)
    points = points.float()
    points[3, 1] = torch.nan
    points[4, 0] = torch.inf
    found = gradients(look_up, [level.float() for level in levels], points, weights.float())
    assert torch.isfinite(found[0][5:]).all() and all(
        torch.isfinite(grad).all() for grad in found[2:]
    )
