"""Fields on the coarse grid of mattes."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.preprocess.matting.grid import (
    inliers,
    masked_means,
    push_pull,
    quadratic_surface,
    shrink,
    smooth_field,
)

# whole cells; cells with parts of pixels; hardly a grid at all
SHAPES = [(64, 96), (61, 45), (7, 130)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_masked_means(shape, kind):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*shape, 3)).astype(kind)
    mask = rng.random(shape) < 0.6
    mask[:, : shape[1] // 3] = False
    colours, shares = masked_means(image, mask)
    inside = mask.astype(np.float32)
    expected = (
        shrink(image.astype(np.float32) * inside[..., None])
        / np.maximum(shrink(inside), 1e-6)[..., None]
    )
    np.testing.assert_allclose(shares, shrink(inside), atol=1e-4)
    np.testing.assert_allclose(colours, expected, atol=0.05)
    assert (shares == 0).any() and (colours[shares == 0] == 0).all()


@pytest.mark.parametrize("shape", [(32, 48), (31, 23)])
def test_push_pull(shape):
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 30, (*shape, 3)).astype(np.float32)
    weights = (rng.random(shape) < 0.3).astype(np.float32)
    weights[0, 0] = 1
    field = push_pull(values, weights)
    known = weights > 0
    np.testing.assert_allclose(field[known][:, :3], values[known], atol=1e-3)
    assert field[known][:, 3].max() < 0.1 < field[~known][:, 3].mean()
    low, high = values[known].min(0), values[known].max(0)
    assert (field[..., :3] >= low - 1e-3).all() and (field[..., :3] <= high + 1e-3).all()
    even = push_pull(np.full((*shape, 3), 7, np.float32), weights)
    np.testing.assert_allclose(even[..., :3], 7, rtol=1e-4)
    assert even[..., 3].max() < 0.1
    assert np.isfinite(push_pull(values, 0 * weights)).all()
    for height, width in ((2, 33), (3, 3)):  # hardly a pyramid
        part = push_pull(values[:height, :width], weights[:height, :width])
        assert part.shape == (height, min(width, shape[1]), 4) and np.isfinite(part).all()


def test_quadratic_surface():
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 200, (20, 33, 3)).astype(np.float32)
    weights = rng.random((20, 33)).astype(np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 33), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    normal = basis.T @ (basis * weights.reshape(-1, 1)) + np.diag([1e-3, 1, 1, 10, 10, 10])
    right = (basis * weights.reshape(-1, 1)).T @ values.reshape(-1, 3)
    expected = (basis @ np.linalg.solve(normal, right)).reshape(values.shape)
    np.testing.assert_allclose(quadratic_surface(values, weights), expected, atol=5e-3)


def test_smooth_fields():
    y, x = np.mgrid[:48, :64].astype(np.float32)
    values = np.stack([100 + x, 50 + y + 0.02 * x * x, 0 * x + 7], -1)
    weights = np.ones((48, 64), np.float32)
    weights[10:38, 20:50] = 0
    field = smooth_field(values, weights)
    assert np.abs(field[..., :3] - values).max() < 0.5 and field[..., 3].max() < 1
    assert np.abs(push_pull(values, weights)[..., :3] - values)[weights > 0].max() < 1e-2
    # cells that do not divide the grid
    ragged = push_pull(values[:45, :61], weights[:45, :61], finest=8)
    assert ragged.shape == (45, 61, 4) and np.isfinite(ragged).all()


def test_what_does_not_fit_a_wall_is_no_wall():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :32].astype(np.float32)
    values = np.stack([150 + x, 140 + y, 130 + 0 * x], -1) + rng.normal(0, 1, (32, 32, 3)).astype(
        np.float32
    )
    values[10:13, 5:25] -= 90  # a strand of hair
    fit = inliers(values, np.ones((32, 32), np.float32))
    assert fit[10:13, 5:25].max() < 0.05 < 0.8 < np.median(fit)
