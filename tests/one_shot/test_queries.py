"""The queries."""

from __future__ import annotations

import pytest
import torch

from likeness.head_models.farthest_first import farthest_first
from likeness.one_shot.queries import make_queries


def test_queries_lie_on_the_mesh_and_never_twice():
    surface = make_queries("anny", 500, 40)
    assert (
        torch.allclose(surface.barycentrics.sum(-1), torch.ones(500))
        and surface.barycentrics.min() >= 0
    )
    assert torch.allclose(surface.of(surface.model.template), surface.template)
    distances = torch.cdist(surface.template, surface.template) + torch.eye(500)
    assert distances.min() > 1e-4
    assert torch.allclose(surface.near_weights.sum(-1), torch.ones(500)) and surface.near.max() < 40
    assert torch.equal(surface.near[:40, 0], torch.arange(40))


def test_twins_are_mirrored():
    surface = make_queries("anny", 500, 40)
    twins = surface.twins(surface.model.template)
    assert torch.allclose(twins, surface.template * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-3)


def test_any_first_ones_cover_the_head():
    """Of 1000 in farthest-first order the first 250 leave gaps about twice as wide, not holes."""
    surface = make_queries("anny", 1000, 40)
    few = surface.first(250)
    assert len(few) == 250 and torch.allclose(few.spacing, surface.spacing[:250] * 2)
    skin = surface.model.template[surface.model.skin_faces.unique()]
    gaps = [torch.cdist(skin, s.template).amin(1).max() for s in (few, surface)]
    assert gaps[0] < 3 * gaps[1] and gaps[0] < 0.035
    with pytest.raises(ValueError, match="40 to 1000"):
        surface.first(20)


def test_the_same_points_every_time():
    make_queries.cache_clear()
    first = make_queries("anny", 300, 0)
    make_queries.cache_clear()
    assert torch.equal(first.template, make_queries("anny", 300, 0).template)
    assert torch.equal(first.tokens, torch.arange(300))


def test_points_are_the_farthest_from_those_before():
    """Against the definition, point by point; equal distances go to the first."""
    g = torch.Generator().manual_seed(3)
    points, gains = torch.rand(400, 3, generator=g), 1 + 3 * torch.rand(400, generator=g)
    points[350:] = points[:50]
    gains[350:] = gains[:50]
    found = farthest_first(points.numpy(), gains.numpy(), 90)
    expected, nearest = [0], torch.full((400,), 1e9)
    for _ in range(89):
        nearest = torch.minimum(nearest, (points - points[expected[-1]]).square().sum(-1))
        expected.append(int((nearest * gains).argmax()))
    assert found.tolist() == expected
