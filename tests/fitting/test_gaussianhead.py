"""GaussianHead: derivations on the sphere, each with its own channels; deformation, switches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.avatars.deformation import Deformation
from likeness.fitting.avatars.gaussianhead import GaussianHeadConfig
from likeness.fitting.config import FitConfig
from likeness.fitting.optimizers import OptimizerConfig, Surgery, make_optimizer, operate, set_rates
from likeness.ops.encoding import encode
from likeness.ops.triplane import TriPlane
from likeness.scene.config_files import apply, load_preset, to_dict
from likeness.scene.errors import UserError
from tests import toys
from tests.contract.test_avatars import COUNT, EYE, make

SMALL = {"resolution": 8, "scales": (1, 2)}


def test_planes_start_in_the_paper_s_range():
    planes = TriPlane(8, 16, (1, 8))
    assert [tuple(level.shape) for level in planes.levels] == [(3, 16, 16, 8), (3, 128, 128, 8)]
    for level in planes.levels:
        low, high = float(level.detach().min()), float(level.detach().max())
        assert 0.1 <= low < 0.15 and 0.45 < high <= 0.5


def test_gaussians_are_told_apart_from_the_first_step_on():
    avatar = make("gaussianhead", **SMALL)
    with torch.no_grad():
        features = avatar.features(avatar.per_gaussian["means"])
        seen = avatar.opacity_mlp[0](features)
    assert features.std(0).max() < 0.05  # products of three numbers below 0.5
    assert seen.std(0).mean() > 0.3 and seen.mean(0).abs().max() < 1


def test_each_derivation_reads_channels_of_its_own():
    avatar = make("gaussianhead", **SMALL)
    means = avatar.per_gaussian["means"].detach()
    avatar.features(means)[:, 8:16].sum().backward()  # what derivation 1 of 4 read
    touched = (
        torch.stack([level.grad.abs().sum((0, 1, 2)) for level in avatar.planes.levels]).sum(0) > 0
    )
    assert touched[8:16].all() and not touched[:8].any() and not touched[16:].any()
    shared = make("gaussianhead", shared_channels=True, **SMALL)
    shared.features(means)[:, 8:16].sum().backward()
    touched = (
        torch.stack([level.grad.abs().sum((0, 1, 2)) for level in shared.planes.levels]).sum(0) > 0
    )
    assert touched[:8].all() and not touched[8:].any()


def test_derivations_turn_the_query():
    avatar = make("gaussianhead", **SMALL)
    means = avatar.per_gaussian["means"].detach()
    with torch.no_grad():
        avatar.per_gaussian["derivations"].copy_(torch.tensor([1.0, 0, 0, 0]).expand(COUNT, 4, 4))
        still = avatar.features(means)
        plain = make("gaussianhead", derivations=0, **SMALL)
        plain.planes.load_state_dict(avatar.planes.state_dict())
        torch.testing.assert_close(still, plain.features(means))
        # a quarter about z
        avatar.per_gaussian["derivations"][:, 2] = torch.tensor([0.7071068, 0, 0, 0.7071068])
        turned = avatar.features(means)
    assert (turned[:, 16:24] - still[:, 16:24]).abs().max() > 1e-3
    torch.testing.assert_close(turned[:, :16], still[:, :16])


def run_steps(avatar, optimizer, steps):
    state = toys.random_states(())
    for step in range(steps):
        set_rates(optimizer, step / 60)
        optimizer.zero_grad()
        cloud = avatar(state, EYE)
        ((cloud.sh - 0.3).square().mean() + (cloud.opacities - 0.8).square().mean()).backward()
        optimizer.step()


def test_quaternions_stay_on_the_sphere_through_steps_and_surgery():
    avatar = make("gaussianhead", **SMALL)
    optimizer = make_optimizer(avatar, OptimizerConfig())
    start = avatar.per_gaussian["derivations"].detach().clone()
    run_steps(avatar, optimizer, 30)
    operate(
        avatar,
        optimizer,
        Surgery(torch.tensor([0, 0, 3, 7, 7]), torch.tensor([False, True, False, True, True])),
    )
    run_steps(avatar, optimizer, 30)
    quats = avatar.per_gaussian["derivations"].detach()
    assert (quats.norm(dim=-1) - 1).abs().max() < 1e-6
    assert (quats[0] - start[0]).abs().max() > 1e-4  # and they moved


def test_plain_adam_leaves_the_sphere():
    """What the test above would miss if the optimiser were the wrong one."""
    avatar = make("gaussianhead", derivation_kind="euclidean", **SMALL)
    assert avatar.spherical == ()
    run_steps(avatar, make_optimizer(avatar, OptimizerConfig()), 60)
    assert (avatar.per_gaussian["derivations"].detach().norm(dim=-1) - 1).abs().max() > 1e-6


def test_a_step_on_the_sphere_is_the_exponential_map():
    """Of a step with Adam's direction d, the arc is as long as d; a projected step would be
    shorter."""
    avatar = make("gaussianhead", **SMALL)
    optimizer = make_optimizer(avatar, OptimizerConfig())
    group = next(g for g in optimizer.param_groups if g["kind"] == "derivations")
    quats = avatar.per_gaussian["derivations"]
    before, rate = quats.detach().double().clone(), 0.5
    gradient = torch.randn(quats.shape, generator=torch.Generator().manual_seed(0))
    quats.grad, group["lr"] = gradient.clone(), rate
    optimizer.step()
    tangent = gradient.double() - (gradient.double() * before).sum(-1, keepdim=True) * before
    # the first step of Adam has the length of the rate
    step = -rate * tangent / tangent.norm(dim=-1, keepdim=True)
    arc = step.norm(dim=-1, keepdim=True)
    expected = before * arc.cos() + step / arc * arc.sin()
    torch.testing.assert_close(quats.detach().double(), expected, atol=1e-6, rtol=0)


def test_momentum_is_tangent_and_children_inherit_it_with_the_quaternions():
    avatar = make("gaussianhead", **SMALL)
    optimizer = make_optimizer(avatar, OptimizerConfig())
    run_steps(avatar, optimizer, 5)
    old = avatar.per_gaussian["derivations"]
    values, momentum = old.detach().clone(), optimizer.state[old]["exp_avg"].clone()
    assert momentum.abs().max() > 0
    assert (values * momentum).sum(-1).abs().max() < 1e-6 * max(1.0, float(momentum.abs().max()))
    source = torch.tensor([4, 4, 9])
    operate(avatar, optimizer, Surgery(source, torch.tensor([False, True, True])))
    new = avatar.per_gaussian["derivations"]
    torch.testing.assert_close(new.detach(), values[source])
    torch.testing.assert_close(optimizer.state[new]["exp_avg"], momentum[source])
    assert type(new) is type(old) and any(
        new is p for group in optimizer.param_groups for p in group["params"]
    )


def test_rates_fall_as_in_the_paper():
    avatar = make("gaussianhead", **SMALL)
    optimizer = make_optimizer(avatar, OptimizerConfig())
    groups = {group["kind"]: group for group in optimizer.param_groups}
    course = {
        "derivations": (1e-3, 5e-4, 0.0),
        "planes": (1e-3, 5e-4, 0.0),
        "means": (1.5e-4, 0.5 * 1.515e-4, 1.5e-6),
        "deformation": (8e-4, (8e-4 * 1.6e-6) ** 0.5, 1.6e-6),
    }
    for kind, rates in course.items():
        for progress, rate in zip((0.0, 0.5, 1.0), rates):
            set_rates(optimizer, progress)
            assert groups[kind]["lr"] == pytest.approx(rate), kind


def test_derivations_grow_with_the_gaussians_and_change_nothing_as_they_do():
    """Equation 12: 32 channels / 2^(6 - ⌈N / N at the start⌉)."""
    avatar = make("gaussianhead", derivations=16, derivation_schedule=True, **SMALL)
    optimizer, state = make_optimizer(avatar, OptimizerConfig()), toys.random_states(())
    counts = []
    for growth in (1, 2, 2.5, 4, 3, 9):
        source = torch.arange(int(growth * COUNT)) % avatar.num_gaussians
        operate(avatar, optimizer, Surgery(source, torch.ones(len(source), dtype=torch.bool)))
        before = avatar.features(avatar.per_gaussian["means"])
        avatar.advance(0.0)
        torch.testing.assert_close(avatar.features(avatar.per_gaussian["means"]), before)
        counts.append(int(avatar.derivation_counts[1]))
        optimizer.zero_grad()
        avatar(state, EYE).sh.square().sum().backward()
        optimizer.step()
    # fewer Gaussians take none away; no more than ``derivations``
    assert counts == [1, 2, 4, 8, 8, 16]
    again = make("gaussianhead", derivations=16, derivation_schedule=True, **SMALL)
    again.resize(avatar.num_gaussians)
    again.load_state_dict(avatar.state_dict())
    torch.testing.assert_close(again(state, EYE).sh, avatar(state, EYE).sh)
    with pytest.raises(ValueError, match="power of two, got 40 and 3"):
        again.load_state_dict(avatar.state_dict() | {"derivation_counts": torch.tensor([COUNT, 3])})


SWITCHES = [
    {"derivations": 0},
    {"derivations": 1},
    {"derivations": 8},
    {"derivation_kind": "euclidean"},
    {"derivation_kind": "fixed"},
    {"derivation_kind": "scene"},
    {"shared_channels": True},
    {"scales": (1,)},
    {"deformation": False},
    {"deform_by_pose": True},
    {"triplane": False},
    {"sh_degree": 0},
    {"derivations": 16},
    {"derivations": 16, "derivation_schedule": True},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_ablation_runs_and_trains(switch):
    avatar = make("gaussianhead", **{**SMALL, **switch})
    before = {name: value.detach().clone() for name, value in avatar.named_parameters()}
    optimizer = make_optimizer(avatar, OptimizerConfig())
    cloud = avatar(toys.random_states(()), EYE)
    sum((value**2).sum() for value in cloud.fields().values()).backward()
    optimizer.step()
    moved = {
        name for name, value in avatar.named_parameters() if not torch.equal(value, before[name])
    }
    assert ("per_gaussian.derivations" in moved) == (
        switch.get("derivations", 4) > 0
        and switch.get("derivation_kind", "") not in ("fixed", "scene")
        and switch.get("triplane", True)
    )
    assert "per_gaussian.means" in moved


def test_the_deformation_waits():
    avatar, state = make("gaussianhead", **SMALL), toys.random_states(())
    other = dataclasses.replace(state, expression=1 - state.expression)
    avatar.advance(2999)
    assert avatar(state, EYE).means.equal(avatar(other, EYE).means)
    avatar.advance(3000)
    assert not avatar(state, EYE).means.equal(avatar(other, EYE).means)


def test_rotations_are_composed():
    """With a turn of the network's, quaternions stay unit, whatever its size."""
    avatar = make("gaussianhead", **SMALL)
    with torch.no_grad():
        avatar.deformation.turn.bias += torch.tensor([0.5, 2.0, 0.0, -1.0])
    quats = avatar(toys.random_states(()), EYE).quats
    torch.testing.assert_close(quats.norm(dim=-1), torch.ones(COUNT))


def test_the_colour_depends_on_the_view():
    avatar, state = make("gaussianhead", **SMALL), toys.random_states(())
    assert avatar.view_dependent
    a, b = avatar(state, EYE), avatar(state, EYE + torch.tensor([0.3, 0.0, 0.0]))
    assert (a.sh - b.sh).abs().max() > 1e-6 and a.opacities.equal(b.opacities)


def test_the_deformation_without_pose():
    state = toys.random_states((), seed=1)
    moved = dataclasses.replace(state, T_world_body=toys.random_states((), seed=7).T_world_head)
    blind = make("gaussianhead", **SMALL)
    assert blind(state, EYE).means.equal(blind(moved, EYE).means)
    seeing = make("gaussianhead", deform_by_pose=True, **SMALL)
    assert not seeing(state, EYE).means.equal(seeing(moved, EYE).means)
    far = dataclasses.replace(state, T_world_body=toys.head_pose(distance=90.0))
    assert (seeing(far, EYE).means - seeing(state, EYE).means).abs().max() < 0.1


def test_what_is_fixed_to_the_body_is_looked_at_from_there():
    """With camera and shoulders still, a head that turns changes no colour of theirs."""
    avatar = make(
        "gaussianhead", AnchoringConfig(two_frames=True), deformation=False, sh_degree=0, **SMALL
    )
    with torch.no_grad():
        avatar.per_gaussian["head_logits"].copy_(torch.where(torch.arange(COUNT) < 20, -30.0, 30.0))
    state, view = (
        dataclasses.replace(toys.random_states(()), T_world_body=toys.head_pose()),
        toys.camera(32),
    )
    states = [dataclasses.replace(state, T_world_head=toys.head_pose(yaw)) for yaw in (0.0, 0.5)]
    still, turned = (avatar(each, view.in_frame(each.T_world_head).center).sh for each in states)
    torch.testing.assert_close(still[:20], turned[:20], atol=1e-6, rtol=0)
    assert (still[20:] - turned[20:]).abs().max() > 1e-5


def test_settings_of_earlier_programs_are_read():
    """Their avatars say whether the deformation computed in bfloat16; it does in float32
    everywhere."""
    stored = {**to_dict(GaussianHeadConfig()), "deform_bfloat16": True}
    assert apply(GaussianHeadConfig(), stored, "avatar.json") == GaussianHeadConfig()
    with pytest.raises(UserError, match="unknown key gaussianhead.deform_bfloat16"):
        load_preset("gaussianhead", FitConfig, ["gaussianhead.deform_bfloat16=true"])


def test_folding_the_condition_equals_the_concatenation():
    """The first and the skip layer on (encoding, condition) are what the paper's network has."""
    torch.manual_seed(0)
    net = Deformation(63, 9, width=16, layers=8, skip=4).double()
    points, condition = torch.randn(7, 3).double(), torch.randn(9).double()
    encoded = encode(points, 10)
    inputs = torch.cat([encoded, condition.expand(7, -1)], -1)
    x = torch.relu(
        inputs @ torch.cat([net.hidden[0].weight, net.conditions[0].weight], 1).T
        + net.hidden[0].bias
    )
    for layer in range(1, 8):
        weight, below = net.hidden[layer].weight, x
        if layer == 4:
            weight = torch.cat([weight, net.again.weight, net.conditions[1].weight], 1)
            below = torch.cat([x, inputs], -1)
        x = torch.relu(below @ weight.T + net.hidden[layer].bias)
    torch.testing.assert_close(net(encoded, condition)[0], net.shift(x))


@pytest.mark.parametrize(
    "change",
    [
        {"derivations": 3},
        {"derivations": -1},
        {"deform_skip": 8},
        {"derivation_schedule": True, "derivations": 0},
    ],
)
def test_a_config_that_cannot_be(change):
    with pytest.raises(ValueError, match="expected"):
        GaussianHeadConfig(**change)
