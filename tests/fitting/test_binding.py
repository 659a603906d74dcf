"""Gaussians stay bound to the place on the mesh that moves them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.avatars.rigged import RiggedConfig
from likeness.fitting.binding import Binder, BindingConfig, bound_distances
from likeness.fitting.config import FitConfig
from likeness.fitting.optimizers import OptimizerConfig, Surgery, make_optimizer, operate
from likeness.head_models.sides import NO_SIDE, SIDES
from likeness.scene.frame_images import FrameStore
from likeness.scene.transforms import normalize_quats, quats_to_matrices
from likeness.seeding.config import SeedingConfig
from tests import toys

CONFIG = FitConfig(
    avatar="rigged",
    rigged=RiggedConfig(),
    initializer="mesh",
    seeds=SeedingConfig(num_gaussians=4000, frames=2),
    densifier="none",
)
BINDING = BindingConfig(every=100)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("bound"), frames=4, size=32, test=1)


@pytest.fixture(scope="module")
def seeds(capture):
    frames = FrameStore(capture, capture.train)
    return loop.SEEDINGS["mesh"](capture, frames, CONFIG.seeds, 0)


def strayed(capture, seeds, by_m: float = 0.006):
    """An avatar whose Gaussians have wandered, as large as 3 mm."""
    avatar = loop.avatar_of(seeds, CONFIG, capture, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        p = avatar.per_gaussian
        p["means"] += by_m * torch.randn(p["means"].shape, generator=generator)
        p["quats"].copy_(torch.randn(p["quats"].shape, generator=generator))
        p["log_scales"].copy_(-6 + 0.5 * torch.randn(p["means"].shape, generator=generator))
    return avatar


def test_lips_lids_and_what_is_behind_them_are_held(capture, seeds):
    avatar = strayed(capture, seeds)
    binder = Binder(capture, BINDING)
    free = avatar.per_gaussian["means"].detach().clone()
    member = binder.surface.membership(avatar.rig)
    binder.after_step(avatar, 1, False)  # no round: held at the places that they have
    away = (avatar.per_gaussian["means"] - binder.surface.place(avatar.rig)).norm(dim=-1)
    skin = member.part == 0
    sided = skin & (member.side != NO_SIDE)
    assert sided.sum() > 100 and (~skin).sum() > 500
    assert away[sided].max() <= BINDING.leash_m + 1e-6
    assert away[~skin].max() <= BINDING.inner_leash_m + 1e-6
    sizes = avatar.per_gaussian["log_scales"].exp()
    cavity = member.part >= 6  # of the eyes and of the mouth
    assert sizes[~skin & ~cavity].max() <= BINDING.inner_size_m * 1.0001 < sizes[skin].max()
    assert BINDING.inner_size_m < sizes[cavity].max() <= 2 * BINDING.inner_size_m * 1.0001
    others = skin & ~sided
    torch.testing.assert_close(avatar.per_gaussian["means"][others], free[others])


def test_what_moved_along_the_skin_is_bound_to_where_it_is(capture, seeds):
    avatar = strayed(capture, seeds)
    binder = Binder(capture, BINDING)
    before, member = bound_distances(avatar, capture), binder.surface.membership(avatar.rig)
    binder.bind(avatar)
    after, again = bound_distances(avatar, capture), binder.surface.membership(avatar.rig)
    assert torch.equal(again.part, member.part)
    crossed = (again.side != member.side) & (again.side != NO_SIDE) & (member.side != NO_SIDE)
    assert not crossed.any()
    assert set(after) == set(before) >= {"lips", "lids", "skin", "tongue", "eye_left"}
    for name in ("skin", "lips", "lids"):
        assert after[name]["median"] < 0.75 * before[name]["median"]
        assert after[name]["median"] <= after[name]["p95"]


def test_nothing_of_a_lip_reaches_over_its_rim(capture, seeds):
    avatar = strayed(capture, seeds)
    p = avatar.per_gaussian
    scales = p["log_scales"].detach().clone()
    binder = Binder(capture, BINDING)
    for step in range(1, 12):  # no round: places stay
        binder.after_step(avatar, step * 5, False)
    surface, member = binder.surface, binder.surface.membership(avatar.rig)
    place, axes = surface.place(avatar.rig), quats_to_matrices(normalize_quats(p["quats"]))
    checked = 0
    for side, name in enumerate(("lip_upper", "lip_lower")):
        mine = ((member.side == side) & (member.part == 0)).nonzero()[:, 0]
        arc = surface.vertices[surface.sides.arcs[name]]
        rim = torch.cat([torch.lerp(arc[:-1], arc[1:], k / 20) for k in range(21)])
        distance, nearest = torch.cdist(place[mine], rim).min(-1)
        toward = torch.nn.functional.normalize(rim[nearest] - place[mine], dim=-1)
        spread = ((toward[:, None] @ axes[mine])[:, 0] * p["log_scales"][mine].exp()).norm(dim=-1)
        seen = distance > 1e-3  # nearer its direction is not well defined
        assert (2 * spread <= 1.1 * distance + 1.5 * BINDING.rim_slack_m)[seen].all()
        checked += len(mine)
    assert checked > 50
    elsewhere = ((member.part == 0) & (member.side == NO_SIDE)).nonzero()[:, 0]
    torch.testing.assert_close(p["log_scales"][elsewhere], scales[elsewhere])


def test_nothing_of_a_lid_stands_in_the_eye(capture, seeds):
    """Between the lids, 1.5 mm from either edge, nothing that is bound to these is seen."""
    avatar = strayed(capture, seeds)
    binder = Binder(capture, BINDING)
    for step in range(1, 4):
        binder.after_step(avatar, step * 5, False)
    surface, p = binder.surface, avatar.per_gaussian
    side = binder.surface.membership(avatar.rig).side
    axes = quats_to_matrices(normalize_quats(p["quats"]))
    for eye in ("left", "right"):
        upper, lower = (
            surface.vertices[surface.sides.edges[f"lid_{eye}_{which}"]]
            for which in ("upper", "lower")
        )
        middle = upper[len(upper) // 2]
        across = lower[torch.cdist(middle[None], lower).argmin()] - middle
        across = across / across.norm()
        mine = (side == SIDES.index(f"lid_{eye}_upper")) & (
            (p["means"][:, 0] - middle[0]).abs() < 3e-3
        )
        reach = ((p["means"][mine] - middle) * across).sum(-1)
        spread = ((across @ axes[mine]) * p["log_scales"][mine].exp()).norm(dim=-1)
        assert mine.any()
        assert (reach < 1.5e-3).all() and (reach + 2 * spread < 2.5e-3).all()


def test_children_inherit_what_they_belong_to(capture, seeds):
    avatar = strayed(capture, seeds, 0.0)
    binder = Binder(capture, BINDING)
    optimizer = make_optimizer(avatar, OptimizerConfig())
    member = binder.surface.membership(avatar.rig)
    source = torch.arange(4000).repeat_interleave(2)
    means = avatar.per_gaussian["means"].detach()[source]
    means = means + 0.01 * torch.randn(means.shape, generator=torch.Generator().manual_seed(1))
    fresh = torch.arange(8000) % 2 == 1
    operate(avatar, optimizer, Surgery(source, fresh, {"means": means}))
    binder.after_step(avatar, 3, True)
    again = binder.surface.membership(avatar.rig)
    assert torch.equal(again.part, member.part[source])
    sides = member.side[source]
    assert ((again.side == sides) | (again.side == NO_SIDE) | (sides == NO_SIDE)).all()


def test_an_avatar_without_a_rig_has_no_figures(capture):
    config = dataclasses.replace(CONFIG, avatar="headgas", initializer="random")
    avatar = loop.create_avatar(config, capture, FrameStore(capture, capture.train), 0)
    assert bound_distances(avatar, capture) == {}
