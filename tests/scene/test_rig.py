"""Gaussians that move with the head model's shapes."""

from __future__ import annotations

import torch

from preprocess.head_models import HEAD_MODELS
from scene.cloud import GaussianCloud
from scene.rig import displace
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
        GaussianCloud(**fields), state.expression, model.expression_basis, model.faces[drawn], barycentrics
    )
    torch.testing.assert_close(moved.means, on(shaped.posed(state).vertices), atol=1e-6, rtol=0)
    assert (moved.means - fields["means"]).norm(dim=-1).max() > 0.01
