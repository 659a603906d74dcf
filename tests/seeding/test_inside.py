"""The mouth's inside: closed behind every mouth, rigid part by part, and of colours that suit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS, shaped_head
from likeness.head_models.inside import TEETH, exposed_faces, inside_faces, inside_mouth
from likeness.head_models.landmarks import LIPS
from likeness.ops.deform import displacement
from likeness.ops.harmonics import C0
from likeness.renderers import create
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.camera import Camera
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig
from likeness.seeding.inside import inside_colours, inside_seeds, with_inside
from likeness.seeding.mesh import mesh_seeds
from likeness.seeding.random import random_seeds
from likeness.seeding.vertex_colours import VertexColours
from tests import toys

SEEDS = 1200  # as many as the default preset has
VIEWS = ((0.0, 0.0), (0.6, 0.0), (-0.3, 0.3), (0.0, -0.3))  # yaw and pitch


@pytest.fixture(scope="module", params=list(HEAD_MODELS))
def model(request):
    return HEAD_MODELS[request.param]()


def colours(model, rgb=(0.6, 0.5, 0.45), light=(1.0, 1.0, 1.0)) -> VertexColours:
    count = len(model.template)
    everywhere = np.tile(np.float32(rgb), (count, 1))
    return VertexColours(
        everywhere, np.ones(count), np.zeros(count), np.ones((1, 3)), np.array(light)
    )


@pytest.fixture(scope="module")
def seeds(model):
    head = model.shaped(model.neutral_identity())
    return inside_seeds(head, colours(model), head.expression_shapes(), SEEDS, 0)


def part(model, seeds, name):
    return model.vertex_part[seeds.rig.vertices[:, 0]] == model.part_names.index(name)


def mouths(model):
    """Each expression alone, and wide ones."""
    names = model.expression_names
    yield from torch.eye(len(names))
    for wide in ({"jawOpen": 0.5}, {"jawOpen": 0.6, "mouthUpperUp": 1.0, "mouthLowerDown": 1.0}):
        sides = [name.removesuffix("Left").removesuffix("Right") for name in names]
        yield torch.tensor([wide.get(side, 0.0) for side in sides])


def test_no_mouth_shows_what_is_behind_the_head(model, seeds):
    """Where the mesh shows its inside, so do the seeds alone, all but opaque: in every expression,
    from four sides."""
    head, faces = model.shaped(model.neutral_identity()), inside_faces(model).numpy()
    K, renderer, seen = torch.tensor([[400.0, 0, 32], [0, 400, 32], [0, 0, 1]]), create("cpu"), 0
    for number, expression in enumerate(mouths(model)):
        capped = model.capped(expression)
        mesh = head.posed(dataclasses.replace(model.neutral_state(), expression=expression))
        lips = mesh.landmarks()[list(LIPS)].mean(0)
        moved = seeds.cloud.means + displacement(capped, seeds.rig)
        for yaw, pitch in VIEWS:
            ray = [
                math.sin(yaw) * math.cos(pitch),
                math.sin(pitch),
                math.cos(yaw) * math.cos(pitch),
            ]
            eye, up = lips + 0.6 * torch.tensor(ray), torch.tensor([0.0, 1.0, 0.0])
            camera = Camera.looking_at(K, eye, lips, up, 64, 64)
            shown = rasterize_camera(mesh.vertices, model.faces, camera).face_index
            inside = (shown >= 0) & faces[np.maximum(shown, 0)]
            # pixels that lie wholly within it
            inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1]
            inside[1:-1, 1:-1] &= inside[1:-1, :-2] & inside[1:-1, 2:]
            cloud = dataclasses.replace(seeds.cloud, means=moved)
            alpha = renderer.render(cloud, camera).alpha[..., 0].numpy()[inside]
            seen += len(alpha)
            assert (alpha > 0.7).all(), (number, yaw, pitch)
            assert (alpha > 0.9).mean() > 0.98 if len(alpha) else True, (number, yaw, pitch)
    assert seen > 1000


def test_parts_are_rigid(model, seeds):
    """Upper teeth stand still in the head's frame whatever the face does; lower teeth keep their
    distances from one another."""
    for number in range(len(model.expression_names)):
        moved = displacement(torch.eye(len(model.expression_names))[number], seeds.rig)
        upper, lower = (part(model, seeds, name) for name in TEETH)
        assert moved[upper].norm(dim=-1).max() < 2e-4
        before = seeds.cloud.means[lower][:60]
        after = before + moved[lower][:60]
        assert (torch.cdist(before, before) - torch.cdist(after, after)).abs().max() < 2e-3


def test_seeds_lie_where_mouths_open(model, seeds):
    shown = exposed_faces(model)
    triangles = {tuple(face): index for index, face in enumerate(model.faces.tolist())}
    of = torch.tensor([triangles[tuple(corners)] for corners in seeds.rig.vertices.tolist()])
    assert shown[of].float().mean() > 0.9
    assert inside_mouth(model)[seeds.rig.vertices].all()
    assert seeds.cloud.opacities.min() > 0.9


def test_colours_suit_the_person(model, seeds):
    head = model.shaped(model.neutral_identity())

    def mean(part_name, **person):
        of = seeds.rig.vertices, seeds.rig.weights
        return inside_colours(head, colours(model, **person), *of)[part(model, seeds, part_name)]

    plain = {name: mean(name) for name in ("teeth_upper", "tongue", "mouth_cavity")}
    brightest = plain["teeth_upper"].mean(1).quantile(0.8)
    assert brightest > plain["tongue"].mean() > plain["mouth_cavity"].mean()
    assert plain["tongue"][:, 0].mean() > 1.3 * plain["tongue"][:, 1].mean()
    dim = mean("teeth_upper", light=(0.5, 0.5, 0.5))
    # of green and blue the crowns have most, and these do not know lips
    torch.testing.assert_close(dim.amax(0)[1:], 0.5 * plain["teeth_upper"].amax(0)[1:])
    redder = mean("tongue", rgb=(0.7, 0.4, 0.38))
    assert redder[:, 0].mean() / redder[:, 1].mean() > (
        1.1 * plain["tongue"][:, 0].mean() / plain["tongue"][:, 1].mean()
    )


def test_seeds_of_the_inside_are_made_anew(tmp_path):
    capture = toys.make_capture(tmp_path, frames=4, size=32, test=1)
    frames = FrameStore(capture, capture.train)
    first = mesh_seeds(capture, frames, SeedingConfig(1500, frames=2), seed=0)
    own = inside_mouth(shaped_head(capture).model)[first.rig.vertices].all(-1)
    features = torch.rand(len(own), 5)
    made = with_inside(dataclasses.replace(first, features=features), capture, frames, 0)
    kept = int((~own).sum())
    torch.testing.assert_close(made.cloud.means[:kept], first.cloud.means[~own])
    count = len(made.head_weights) - kept
    assert count == max(int(own.sum()), round(0.12 * 1500))
    assert inside_mouth(shaped_head(capture).model)[made.rig.vertices[kept:]].all()
    assert made.features is not None and made.features.shape == (kept + count, 5)
    assert ((made.cloud.sh[kept:] * C0 + 0.5) >= 0).all()
    # what nothing is bound to stays as it is
    loose = random_seeds(capture, frames, SeedingConfig(50), 0)
    outside = loose.select(~inside_mouth(shaped_head(capture).model)[loose.rig.vertices].all(-1))
    assert with_inside(outside, capture, frames, 0) is outside
