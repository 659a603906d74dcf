"""Gaussians that move with the head model's shapes."""

from __future__ import annotations

import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.ops.deform.rig import displace
from likeness.scene.cloud import GaussianCloud
from tests import toys


def test_gaussians_on_the_mesh_move_as_the_mesh_does():
    model = HEAD_MODELS["anny"]()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(model.faces), (200,), generator=generator)
    barycentrics = torch.rand(200, 3, generator=generator)
    barycentrics /= barycentrics.sum(-1, keepdim=True)
    shaped = model.shaped(model.neutral_identity())

    def on(vertices):
        return (vertices[model.faces[drawn]] * barycentrics[..., None]).sum(1)

    state = model.neutral_state()
    state.expression[model.expression_names.index("jawOpen")] = 0.7
    state.expression[model.expression_names.index("mouthSmileLeft")] = 0.5
    fields = {**toys.blob(200).fields(), "means": on(shaped.vertices)}
    moved = displace(
        GaussianCloud(**fields),
        state.expression,
        model.expression_basis,
        model.faces[drawn],
        barycentrics,
    )
    torch.testing.assert_close(moved.means, on(shaped.posed(state).vertices), atol=1e-6, rtol=0)
    assert (moved.means - fields["means"]).norm(dim=-1).max() > 0.01


def bound(count: int = 333, seed: int = 0):
    """A cloud, an expression and a binding to 40 vertices."""
    g = torch.Generator().manual_seed(seed)
    cloud, expression = toys.blob(count), torch.randn(7, generator=g)
    expression[2] = 0
    shapes, weights = torch.randn(7, 40, 3, generator=g), torch.rand(count, 3, generator=g)
    return cloud, expression, shapes, torch.randint(40, (count, 3), generator=g), weights


def test_the_kernel_is_the_sum_over_corners_in_double_precision_and_in_batches():
    cloud, expression, shapes, vertices, weights = bound()
    found = displace(cloud, expression, shapes, vertices, weights).means
    double = (
        cloud.to(torch.float64),
        expression.double(),
        shapes.double(),
        vertices,
        weights.double(),
    )
    torch.testing.assert_close(found, displace(*double).means.float(), atol=1e-5, rtol=1e-5)
    batch = displace(cloud.expand(2), expression.expand(2, -1), shapes, vertices, weights).means
    torch.testing.assert_close(found.expand(2, -1, 3), batch, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_means_and_what_drives_them():
    cloud, expression, shapes, vertices, weights = bound(5)
    means = cloud.means.clone().requires_grad_()
    fields = {**cloud.fields(), "means": means}
    for leaf in (None, expression, shapes, weights):
        wanted = [means] if leaf is None else [means, leaf.requires_grad_()]
        moved = displace(GaussianCloud(**fields), expression, shapes, vertices, weights).means
        first, *others = torch.autograd.grad(moved.sum(), wanted)
        assert torch.equal(first, torch.ones_like(first)) and all(
            other.abs().max() > 0 for other in others
        )
        if leaf is not None:
            leaf.requires_grad_(False)


def test_vertices_that_the_rig_does_not_have_are_refused():
    cloud, expression, shapes, vertices, weights = bound(5)
    vertices[3, 1] = 40
    with pytest.raises(IndexError, match="vertices from .* to 40"):
        displace(cloud, expression, shapes, vertices, weights)
