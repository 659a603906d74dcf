"""Gaussians that move with the head model's shapes."""

from __future__ import annotations

import torch

from fitting.avatars.rig import displace
from fitting.initializers.picture import tie_to_nearest
from preprocess.head_models import HEAD_MODELS
from scene.cloud import GaussianCloud
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


def test_what_is_far_from_the_mesh_does_not_move(tmp_path):
    capture = toys.make_capture(tmp_path, frames=4, size=32, test=1)
    surface = HEAD_MODELS["anny"]().template[:1]
    points = torch.cat([surface, surface + torch.tensor([0.0, 0.5, 0.5])])
    sums = tie_to_nearest(capture, points).weights.sum(-1)
    assert sums[0] > 0.99 and sums[1] < 1e-3
