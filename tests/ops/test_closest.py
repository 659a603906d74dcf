"""Nearest points of triangles: kernel, reference and a dense search agree."""

from __future__ import annotations

import torch

from likeness.ops.closest import closest_triangles, closest_triangles_reference


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    triangles = torch.randn(40, 3, 3, generator=generator)
    triangles[0] = triangles[0, :1]  # without area
    points = 2 * torch.randn(300, 3, generator=generator)
    return points, triangles, torch.randint(40, (300, 5), generator=generator)


def test_the_kernel_finds_what_the_reference_finds():
    points, triangles, candidates = random_case()
    chosen, weights, distances = closest_triangles(points, triangles, candidates)
    wide = closest_triangles_reference(points.double(), triangles.double(), candidates)
    torch.testing.assert_close(distances, wide[2].float(), atol=1e-5, rtol=1e-5)
    with_area = (chosen == wide[0]) & (chosen != 0)
    assert with_area.float().mean() > 0.9
    torch.testing.assert_close(weights[with_area], wide[1][with_area].float(), atol=1e-3, rtol=1e-3)


def test_no_place_of_the_candidates_is_nearer():
    points, triangles, candidates = random_case(1)
    chosen, weights, distances = closest_triangles(points, triangles, candidates)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(points)), atol=1e-5, rtol=0)
    places = (weights[..., None] * triangles[chosen]).sum(-2)
    torch.testing.assert_close((places - points).norm(dim=-1), distances, atol=1e-5, rtol=1e-5)
    drawn = torch.distributions.Dirichlet(torch.ones(3)).sample(torch.Size([500]))
    others = torch.einsum("sk,nckd->ncsd", drawn, triangles[candidates])
    nearest = (others - points[:, None, None]).norm(dim=-1).flatten(1).amin(-1)
    assert (nearest >= distances - 1e-5).all() and (nearest - distances).median() < 0.05
