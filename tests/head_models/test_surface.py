"""Lips and lids: which side a place is on, and what is bound to it, in all expressions of every
head model."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.head_models.sampling import face_areas, interpolate, sample_triangles
from likeness.head_models.sides import NO_SIDE, SIDES, find_sides, sides_of
from likeness.head_models.surface import RestSurface
from likeness.scene.rig_binding import RigBinding

JITTER_M = 0.003


@pytest.fixture(scope="module", params=list(HEAD_MODELS))
def model(request) -> HeadModel:
    return HEAD_MODELS[request.param]()


@pytest.fixture(scope="module")
def surface(model) -> RestSurface:
    return RestSurface(model.shaped(model.neutral_identity()))


def points_on(surface: RestSurface, count: int, sided: bool) -> RigBinding:
    """Points of the skin; ``sided``: of lips and lids alone."""
    model = surface.model
    wanted = model.face_part == model.part_names.index("skin")
    wanted &= ~surface.sides.lining[model.faces].any(-1)  # nothing is bound there
    if sided:
        wanted &= (surface.sides.side[model.faces] != NO_SIDE).any(-1)
    weights = face_areas(surface.vertices, model.faces) * wanted
    triangles, barycentrics = sample_triangles(weights, count, torch.Generator().manual_seed(0))
    return RigBinding(surface.shapes, model.faces[triangles], barycentrics)


def moved(surface: RestSurface, rig: RigBinding) -> torch.Tensor:
    """[E, N, 3] metres by every expression alone."""
    return interpolate(surface.shapes, rig.vertices, rig.weights)


def test_sides_are_mirrored_and_no_triangle_has_two(model):
    sides = sides_of(model.name)
    other_half = {"left": "right", "right": "left"}
    for number, name in enumerate(SIDES):
        twin = "_".join(other_half.get(word, word) for word in name.split("_"))
        mine = sides.side == number
        assert mine.sum() > 20 and len(sides.arcs[name]) > 3
        assert (sides.side[model.mirror[mine]] == SIDES.index(twin)).all()
        assert (sides.side[sides.arcs[name]] == number).float().mean() > 0.8
    for first, second in ((0, 1), (1, 2), (2, 0)):
        a, b = (sides.side[model.faces[:, corner]] for corner in (first, second))
        assert ((a == b) | (a == NO_SIDE) | (b == NO_SIDE)).all()


def test_the_edge_of_a_lid_is_all_that_joins_its_lining_to_its_skin(model):
    sides = sides_of(model.name)
    edges = torch.cat([sides.edges[name] for name in SIDES if name.startswith("lid")])
    assert (model.vertex_part[edges] == model.part_names.index("skin")).all()
    skin, lining = model.skin_faces, sides.lining
    mixed = lining[skin].any(-1) & ~lining[skin].all(-1)
    assert mixed.sum() > 50 and torch.isin(skin[mixed][~lining[skin[mixed]]], edges).all()
    for name in SIDES:
        if name.startswith("lid"):
            assert not lining[sides.edges[name]].any() and lining[sides.arcs[name]].all()


def test_blinks_draw_the_skin_evenly(model):
    """What shuts an eye comes from all of the skin between the edge of its lid and the brow, and
    what is next to the edge moves as the edge does."""
    skin, names = model.skin_faces, model.expression_names
    rest = model.template[skin]
    for eye in ("left", "right"):
        blink = model.expression_basis[names.index(f"eyeBlink{eye.capitalize()}")]
        shut = rest + blink[skin]
        before, after = ((v[:, 1:] - v[:, :1]).transpose(1, 2) for v in (rest, shut))
        stretch = torch.linalg.svdvals(after @ torch.linalg.pinv(before))[:, 0]
        assert 1.5 < stretch.max() < 2.0
        edge = sides_of(model.name).edges[f"lid_{eye}_upper"]
        assert blink[edge, 1].min() < -0.007
        lift = blink[edge[len(edge) // 3 : -len(edge) // 3]]
        above = model.template[edge[len(edge) // 3 : -len(edge) // 3]] + torch.tensor([0, 3e-3, 0])
        near = torch.cdist(above, model.template).argmin(-1)
        assert (blink[near] - lift).norm(dim=-1).max() < 1.5e-3


def test_an_open_jaw_parts_the_lips_and_a_blink_joins_the_lids(model):
    """What tells the sides apart without the mesh's connectivity: how they move."""
    sides, names = sides_of(model.name), model.expression_names
    jaw = model.expression_basis[names.index("jawOpen"), :, 1]
    upper, lower = (jaw[sides.arcs[f"lip_{which}"]] for which in ("upper", "lower"))
    assert upper.median() - lower.median() > 0.01
    for eye in ("left", "right"):
        blink = model.expression_basis[names.index(f"eyeBlink{eye.capitalize()}"), :, 1]
        upper, lower = (blink[sides.arcs[f"lid_{eye}_{which}"]] for which in ("upper", "lower"))
        assert upper.amin() < -0.004 and upper.amin() < lower.amin() - 0.003


def test_nothing_bound_to_a_lip_or_lid_moves_with_the_other(surface):
    """Points of lips and lids strayed by 3 mm, many of them across the gap: bound anew they move as
    the skin does that they came from, but for how the skin differs over such a way; by their
    nearest place alone they do not."""
    rig = points_on(surface, 2000, sided=True)
    member = surface.membership(rig)
    noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
    strayed = surface.place(rig) + JITTER_M * torch.nn.functional.normalize(noise, dim=-1)
    bound = surface.bind(strayed, member)
    own = member.side
    for corner in range(3):
        side = surface.sides.side[bound.vertices[:, corner]]
        assert ((side == own) | (side == NO_SIDE) | (own == NO_SIDE)).all()
    anywhere = dataclasses.replace(member, side=torch.full_like(own, NO_SIDE))
    free = surface.bind(strayed, anywhere)
    before = moved(surface, rig)
    slips = [(moved(surface, other) - before).norm(dim=-1).amax(0) for other in (bound, free)]
    assert slips[0].quantile(0.99) < 0.012
    assert slips[1].quantile(0.99) > 1.5 * slips[0].quantile(0.99)


def test_skin_stretches_no_more_than_the_mesh(surface):
    """Neighbours on one side stay neighbours in every expression: no hole opens between them."""
    rig = points_on(surface, 4000, sided=True)
    places, member = surface.place(rig), surface.membership(rig)
    again = surface.bind(places, member)
    torch.testing.assert_close(surface.place(again), places, atol=2e-4, rtol=0)
    faces = surface.model.skin_faces
    edges = surface.vertices[faces] - surface.vertices[faces[:, [1, 2, 0]]]
    shapes = surface.shapes
    grown = edges + shapes[:, faces] - shapes[:, faces[:, [1, 2, 0]]]
    stretch = (grown.norm(dim=-1) / edges.norm(dim=-1)).amax()
    apart = torch.cdist(places, places)
    same = (member.side[:, None] == member.side) & (member.side != NO_SIDE)[:, None]
    first, second = ((apart < 5e-4) & same).nonzero().T
    motion = moved(surface, again)
    after = (places + motion)[:, first] - (places + motion)[:, second]
    # within a triangle an edge's stretch bounds that of every direction up to its angles
    assert (after.norm(dim=-1) <= 2 * stretch * 5e-4).all()


def test_parts_are_kept(surface):
    model = surface.model
    weights = face_areas(surface.vertices, model.faces)
    triangles, barycentrics = sample_triangles(weights, 3000, torch.Generator().manual_seed(0))
    rig = RigBinding(surface.shapes, model.faces[triangles], barycentrics)
    member = surface.membership(rig)
    torch.testing.assert_close(member.part, model.face_part[triangles])
    strayed = surface.place(rig) + JITTER_M * torch.randn(3000, 3)
    assert torch.equal(surface.membership(surface.bind(strayed, member)).part, member.part)


def test_a_model_without_an_open_mouth_is_refused(model):
    shut = dataclasses.replace(model, face_part=torch.ones_like(model.face_part))
    with pytest.raises(ValueError, match="no border"):
        find_sides(shut)
