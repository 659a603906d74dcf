"""Seeds from a capture."""

from __future__ import annotations

import torch

from preprocess.head_models import HEAD_MODELS
from preprocess.seeding.beside import tie_to_nearest
from tests import toys


def test_what_is_far_from_the_mesh_does_not_move(tmp_path):
    capture = toys.make_capture(tmp_path, frames=4, size=32, test=1)
    surface = HEAD_MODELS["anny"]().template[:1]
    points = torch.cat([surface, surface + torch.tensor([0.0, 0.5, 0.5])])
    sums = tie_to_nearest(capture, points).weights.sum(-1)
    assert sums[0] > 0.99 and sums[1] < 1e-3
