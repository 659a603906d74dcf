"""The network: what it reads, where its Gaussians stand, and its switches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.one_shot.infer import merged
from likeness.one_shot.network import quats_to
from likeness.one_shot.prediction import to_rest
from likeness.one_shot.sampling import sample
from likeness.one_shot.unprojection import lifting_loss
from likeness.ops import harmonics
from likeness.ops.deform import deform_reference
from likeness.ops.encoding import encode
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import quats_to_matrices
from tests import toys
from tests.one_shot import tiny


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("toy"), frames=6, size=48, test=1)


@pytest.fixture(scope="module")
def seen(capture):
    return tiny.views(capture, [0, 1])


def test_a_batch_is_as_its_single_pictures(seen):
    surface, person, views = seen
    net = tiny.network()
    together = tiny.ask(net, surface, person, views)
    for view, expected in zip(views, together):
        (alone,) = tiny.ask(net, surface, person, [view])
        for name, value in alone.cloud.fields().items():
            assert torch.allclose(value, expected.cloud.fields()[name], atol=1e-5), name
    assert len(views[0].cells[0]) > 5
    assert together[0].cloud.num_gaussians == tiny.MODEL.queries + 2 * len(views[0].cells[0])


def test_before_training_seen_queries_have_their_own_pixels_colours(seen):
    surface, person, views = seen
    (found,) = tiny.ask(tiny.network(), surface, person, views[:1])
    clear = (views[0].own[:, 2] > 0) & (views[0].own[:, 3] > 0.8)
    assert clear.sum() > 8
    pixels = sample(views[0].image[None], views[0].own[None, :, :2])[0, :, :3]
    colours = found.cloud.sh[: found.num_queries, 0] * harmonics.C0 + 0.5
    assert (
        (colours - pixels)[clear].abs().mean()
        < 0.08
        < (colours - pixels.roll(1, 0))[clear].abs().mean()
    )
    hidden = views[0].own[:, 2] == 0
    assert found.confidence[clear].min() > 0.7 and found.confidence[hidden].max() < 0.5


def test_lifted_gaussians_stand_on_their_cells_rays(capture, seen):
    surface, person, views = seen
    (found,) = tiny.ask(tiny.network(), surface, person, views[1:])
    frame, start = capture.frames[1], found.num_queries
    still = torch.zeros(start, 3)
    posed = found.posed(still, frame.state.T_head_body).means[start:]
    pixels, _ = frame.camera.in_frame(frame.state.T_world_head).project(posed)
    places = views[1].cells[0].places.repeat_interleave(2, 0)
    assert torch.allclose(pixels / 48 * 2 - 1, places, atol=1e-3)


def test_rest_and_back():
    points = torch.randn(20, 3) * 0.1
    weights, pose = torch.linspace(0, 1, 20), toys.random_states(()).T_head_body
    others = torch.zeros(20, 4), torch.ones(20, 3), torch.ones(20), torch.zeros(20, 1, 3)
    rest = GaussianCloud(to_rest(points, weights, pose), *others)
    posed = deform_reference(rest, None, None, None, pose, weights)
    assert torch.allclose(posed.means, points, atol=1e-6)


def test_quats_turn_z_to_the_normal():
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    normals = torch.cat([normals, torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])])
    assert torch.allclose(quats_to_matrices(quats_to(normals))[..., 2], normals, atol=1e-5)


def test_switches(seen):
    surface, person, views = seen
    flat = tiny.ask(tiny.network(offsets=False), surface, person, views[:1])[0]
    assert (
        torch.equal(flat.cloud.means[: flat.num_queries], views[0].points)
        and flat.offsets.abs().max() == 0
    )
    blind = tiny.ask(tiny.network(pixel_aligned=False), surface, person, views[:1])[0]
    assert blind.num_queries == tiny.MODEL.queries
    whole = tiny.ask(tiny.network(tokens=0, sh_degree=1), surface, person, views[:1])[0]
    assert whole.cloud.sh.shape[-2] == 4
    none = dataclasses.replace(tiny.MODEL.lifting, enabled=False)
    bare = tiny.ask(tiny.network(lifting=none), surface, person, views[:1])[0]
    assert bare.cloud.num_gaussians == tiny.MODEL.queries
    single = dataclasses.replace(tiny.MODEL.lifting, planes="single")
    front = tiny.ask(tiny.network(lifting=single), surface, person, views[:1])[0]
    assert front.cloud.num_gaussians == tiny.MODEL.queries + len(views[0].cells[0])


def test_what_is_well_seen_stays_where_it_is(seen):
    surface, person, views = seen

    def along(freedom: float) -> torch.Tensor:
        net = tiny.network(seen_freedom=freedom)
        with torch.no_grad():
            net.decoder[-1].bias.normal_(std=3.0, generator=torch.Generator().manual_seed(0))
        return tiny.ask(net, surface, person, views[:1])[0].offsets.norm(dim=-1)

    shown = views[0].own[:, 2] * views[0].own[:, 3].clamp(0, 1)
    free, held = along(1.0), along(0.2)
    assert (
        torch.allclose(held, free * (1 - 0.8 * shown), rtol=1e-3, atol=1e-7) and free.min() > 1e-4
    )


def test_unprojection_of_the_whole_person_covers_the_mesh_too(capture):
    surface, person, beside = tiny.views(capture, [0])
    _, _, everything = tiny.views(capture, [0], region="all")
    assert len(everything[0].cells[0]) > len(beside[0].cells[0])
    found = tiny.ask(tiny.network(), surface, person, everything)[0]
    assert 0 < lifting_loss(found, person.head.vertices) < 0.3


def test_merged_colours_lean_to_who_sees(seen):
    surface, person, views = seen
    first, second = tiny.ask(tiny.network(), surface, person, views)
    sure = dataclasses.replace(first, confidence=torch.ones_like(first.confidence))
    unsure = dataclasses.replace(second, confidence=torch.zeros_like(second.confidence))
    both = merged([unsure, sure])
    count = both.num_queries
    assert torch.allclose(both.cloud.sh[:count], first.cloud.sh[:count], atol=0.02)
    assert torch.equal(both.cloud.means[count:], first.cloud.means[count:])


@pytest.mark.parametrize("dim, side", [(128, 32), (1024, 37), (1024, 1), (6, 5)])
def test_the_code_of_places_is_finite_and_what_the_maps_resolve(dim, side):
    net = tiny.network(dim=dim)
    code, coarse = net._place_code((side, side), side), net._place_code((3, 3), side)
    assert code.shape == (dim, side, side) and torch.isfinite(code).all()
    places = code.flatten(1)
    if side > 1:
        gaps = torch.cdist(places.T, places.T) + 10 * torch.eye(side * side)
        assert gaps.min() > 1e-2  # no two places look alike
        # a place has one code in all maps
        torch.testing.assert_close(coarse[:, 0, 0], code[:, 0, 0])
        if dim >= 128:  # neighbours are alike, unlike far ones
            near, far = (
                (code[:, 0, 0] - code[:, 0, 1]).norm(),
                (code[:, 0, 0] - code[:, -1, -1]).norm(),
            )
            assert near < 0.7 * far


def test_the_first_code_of_places_is_that_of_octaves():
    """What earlier weights were trained with stays as it was, to the bit."""
    code = tiny.network(place_code=1, dim=128)._place_code((7, 9), 9)
    rows, columns = (torch.linspace(-1, 1, side) for side in (7, 9))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    assert torch.equal(code, encode(grid, 32)[..., 2:].movedim(-1, 0))
    with pytest.raises(ValueError, match="at most 508 with place_code=1"):
        tiny.network(place_code=1, dim=512)


def test_octaves_that_are_no_numbers_are_refused():
    assert torch.isfinite(encode(torch.rand(3, 2), 127)).all()
    with pytest.raises(ValueError, match="at most 127 frequencies of torch.float32, got 256"):
        encode(torch.rand(3, 2), 256)
