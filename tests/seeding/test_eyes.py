"""Seeds of eyes and lids: lids shut on skin, and what is hidden of an eye is white."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.head_models import HEAD_MODELS, shaped_head
from likeness.head_models.sampling import face_areas, interpolate, sample_triangles
from likeness.head_models.sides import sides_of
from likeness.ops.harmonics import C0
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig
from likeness.seeding.eyes import with_eyes
from likeness.seeding.mesh import mesh_seeds
from tests import toys


@pytest.fixture(scope="module", params=list(HEAD_MODELS))
def capture(request, tmp_path_factory):
    made = toys.make_capture(tmp_path_factory.mktemp("eyes"), frames=3, size=64, test=1)
    assert made.head_model == request.param, "toys are made of the default head model"
    return made


@pytest.fixture(scope="module")
def seeds(capture):
    """Before, without those inside of the lids, and after; the eyes' are green and huge before."""
    frames = FrameStore(capture, capture.train)
    plain = mesh_seeds(capture, frames, SeedingConfig(10_000, frames=2), seed=0)
    parts = shaped_head(capture).model.vertex_part[plain.rig.vertices[:, 0]]
    eyes = (parts == 1) | (parts == 2)
    sh = plain.cloud.sh.clone()
    sh[eyes] = (torch.tensor([0.0, 1.0, 0.0]) - 0.5) / C0
    scales = torch.where(eyes[:, None], 0.02, plain.cloud.scales)
    plain = dataclasses.replace(plain, cloud=dataclasses.replace(plain.cloud, sh=sh, scales=scales))
    outside = ~sides_of(capture.head_model).lining[plain.rig.vertices].any(-1)
    assert 10 < (~outside).sum() < 0.05 * len(outside)
    return plain.select(outside), with_eyes(plain, capture, frames, 0), eyes[outside]


def test_shut_lids_are_covered(capture, seeds):
    """Every place of an upper lid that can be seen is within two deviations of a seed when it is
    shut, and in most places of several."""
    head, (before, after, _) = shaped_head(capture), seeds
    model, count = head.model, len(before.head_weights)
    names = [model.expression_names.index(f"eyeBlink{eye}") for eye in ("Left", "Right")]
    shut = after.rig.shapes[names].sum(0)
    lid = (shut.norm(dim=-1) > 1e-3) & ~sides_of(model.name).lining
    weights = face_areas(head.vertices + shut, model.faces) * lid[model.faces].all(-1)
    weights = weights * (model.face_part == 0)
    triangles, barycentrics = sample_triangles(weights, 800, torch.Generator().manual_seed(1))
    places = interpolate(head.vertices + shut, model.faces[triangles], barycentrics)
    new = after.select(slice(count, None))
    moved = new.cloud.means + interpolate(shut, new.rig.vertices, new.rig.weights)
    distances = torch.cdist(places, moved) / new.cloud.scales[:, 0]
    assert len(moved) > 500
    assert (distances.amin(-1) < 2).float().mean() > 0.99
    assert (distances < 2).sum(-1).float().median() >= 3
    assert new.cloud.opacities.min() > 0.9


def test_hidden_parts_of_eyes_are_as_guessed_and_seen_ones_stay(capture, seeds):
    before, after, eyes = seeds
    after = after.select(slice(len(eyes)))
    changed = (after.cloud.sh != before.cloud.sh).flatten(1).any(1)
    assert not changed[~eyes].any()
    assert 0.5 < changed[eyes].float().mean() < 1  # most of an eyeball lies in its socket
    colours = 0.5 + C0 * after.cloud.sh[changed, 0]
    assert (colours.amax(-1) - colours.amin(-1)).median() < 0.25
    assert after.cloud.opacities[changed].min() > 0.9
    assert after.cloud.scales[eyes].max() <= 2.5e-3 + 1e-9
    torch.testing.assert_close(after.cloud.scales[~eyes], before.cloud.scales[~eyes])


def test_few_seeds_get_few_more_and_seeds_without_eyes_none(capture):
    frames = FrameStore(capture, capture.train)
    few = mesh_seeds(capture, frames, SeedingConfig(200, frames=2), seed=0)
    assert len(with_eyes(few, capture, frames, 0).head_weights) <= 225
    skin = few.select((shaped_head(capture).model.vertex_part[few.rig.vertices] == 0).all(-1))
    assert len(with_eyes(skin, capture, frames, 0).head_weights) == len(skin.head_weights)
