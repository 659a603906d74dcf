"""HeadGaS against its equations, and the switches of its ablation."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.ops.blend import BlendBasis
from likeness.ops.encoding import encode
from likeness.scene.extent import SCENE_RADIUS_M
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make


def test_the_blend_is_the_papers_sum_and_its_gradient_is_right():
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(5, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    codes = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)
    expected = sum(codes[b] * basis[:, b] for b in range(7))
    torch.testing.assert_close(BlendBasis.apply(basis, codes), expected)
    assert torch.autograd.gradcheck(BlendBasis.apply, (basis, codes))


def test_colour_and_opacity_follow_equations_3_to_5():
    avatar, state = make("headgas"), toys.random_states(())
    p = avatar.per_gaussian
    features = torch.einsum("b,nbf->nf", state.expression, p["basis"]) + p["features"]
    inputs = torch.cat([features, encode(p["means"] / SCENE_RADIUS_M, 4)], -1)
    outputs = avatar.mlp(inputs)
    cloud = avatar(state, EYE)
    torch.testing.assert_close(cloud.opacities, torch.sigmoid(outputs[:, 0]))
    torch.testing.assert_close(cloud.sh, outputs[:, 1:].reshape(-1, 16, 3))
    torch.testing.assert_close(cloud.means, p["means"])  # static: the paper moves nothing


def test_the_basis_starts_at_zero():
    from likeness.fitting.avatars import AvatarShape, TrainingStates
    from likeness.fitting.avatars.headgas import HeadGaS, HeadGaSConfig
    from likeness.scene.seeds import Seeds

    avatar = HeadGaS(HeadGaSConfig(), AvatarShape(10, 52, 2))
    states = toys.random_states((5,))
    seeds = Seeds(toys.blob(10), torch.ones(10), toys.rig(10))
    avatar.initialize(seeds, TrainingStates(states.expression, states.T_head_body))
    assert not avatar.per_gaussian["basis"].any()


SWITCHES = [
    {"blending": "none"},
    {"blending": "parameters"},
    {"changes": "geometry"},
    {"changes": "all"},
    {"changes": "everything"},
    {"changes": "everything", "blending": "parameters"},
    {"expression_codes": 6},
    {"limited": True},
    {"expression_codes": 6, "limited": True},
    {"base_appearance": True},
    {"sh_degree": 0},
]


@pytest.mark.parametrize(
    "switch", SWITCHES, ids=lambda switch: "-".join(f"{k}={v}" for k, v in switch.items())
)
def test_every_switch_trains_and_changes_what_it_says(switch):
    avatar = make("headgas", **switch)
    state, other = toys.random_states((), seed=1), toys.random_states((), seed=2)
    a, b = avatar(state, EYE), avatar(other, EYE)
    sum(value.square().sum() for value in a.fields().values()).backward()
    assert all(
        parameter.grad is not None for parameter in avatar.parameters() if parameter.requires_grad
    )
    moves = (a.means - b.means).abs().max() > 1e-7
    grows = (a.scales - b.scales).abs().max() > 1e-7
    recolours = (a.sh - b.sh).abs().max() > 1e-6
    changes = switch.get("changes", "appearance")
    assert moves == (changes in ("geometry", "all", "everything"))
    assert grows == (changes == "everything")
    assert recolours == (changes in ("appearance", "all", "everything"))


def test_the_place_of_a_gaussian_is_learned_through_its_encoding_too():
    """Equation 4: what the network makes of ψ(μ) is a function of μ."""
    seeing, blind = make("headgas"), make("headgas", encoding_gradient=False)
    for avatar in (seeing, blind):
        cloud = avatar(toys.random_states(()), EYE)
        (cloud.sh.square().sum() + cloud.opacities.sum()).backward()
    assert seeing.per_gaussian["means"].grad.abs().max() > 0
    assert blind.per_gaussian["means"].grad is None
    for name, value in seeing.named_parameters():
        if name != "per_gaussian.means" and value.grad is not None:
            torch.testing.assert_close(
                value.grad, dict(blind.named_parameters())[name].grad, msg=name
            )


def test_limited_coefficients_recolour_as_far_as_training_showed_and_move_all_the_way():
    avatar = make("headgas", dataclasses.replace(EXTENDED, pose_correction=False), limited=True)
    seen = toys.random_states((30,))
    # what training showed is not clamped
    torch.testing.assert_close(avatar.codes(seen), seen.expression)
    most, beyond = seen[0].map(torch.clone), seen[0].map(torch.clone)
    most.expression.copy_(seen.expression.amax(0))
    beyond.expression.copy_(2 * most.expression)
    a, b = avatar(most, EYE), avatar(beyond, EYE)
    constants = avatar.backend()
    colours = (avatar.canonical(state, EYE, constants).sh for state in (most, beyond))
    torch.testing.assert_close(*colours)  # before the rig's light
    torch.testing.assert_close(a.opacities, b.opacities)
    assert (a.means - b.means).abs().max() > 1e-4


def test_codes_are_clamped_to_what_training_showed():
    avatar = make("headgas", expression_codes=6)
    state = toys.random_states(())
    wild = state.map(torch.clone)
    wild.expression.fill_(40.0)
    codes = avatar.codes(wild)
    assert (codes <= avatar.code_limits[1] + 1e-6).all() and (
        codes >= avatar.code_limits[0] - 1e-6
    ).all()
    seen = toys.random_states((30,))
    inside = avatar.codes(seen)
    raw = (seen.expression - avatar.code_mean) @ avatar.code_projection
    torch.testing.assert_close(inside, raw)  # the training frames themselves are not clamped


def test_codes_of_limited_coefficients_are_those_of_the_nearest_expression_seen():
    avatar = make("headgas", expression_codes=6, limited=True)
    seen, beyond = toys.random_states((30,)), toys.random_states(())
    most = beyond.map(torch.clone)
    most.expression.copy_(seen.expression.amax(0))
    beyond.expression.fill_(40.0)
    torch.testing.assert_close(avatar.codes(beyond), avatar.codes(most))
    raw = (seen.expression - avatar.code_mean) @ avatar.code_projection
    torch.testing.assert_close(avatar.codes(seen), raw)


def test_avatars_of_versions_that_limited_codes_alone_still_load():
    old = make("headgas", expression_codes=6)
    new = make("headgas", expression_codes=6, limited=True)
    assert new.declared("avatar.")["avatar.expression_limits"].optional
    new.load_state_dict(old.state_dict())
    state = toys.random_states(())
    state.expression.mul_(30)
    torch.testing.assert_close(new.codes(state), old.codes(state))


def test_avatars_of_versions_whose_rig_only_moved_still_load():
    old, new = make("headgas", EXTENDED), make("headgas", EXTENDED)
    assert old.rig_changes.any()
    assert new.declared("avatar.")["avatar.rig_changes"].optional
    new.load_state_dict({k: v for k, v in old.state_dict().items() if k != "rig_changes"})
    assert not new.rig_changes.any()
    state = toys.random_states(())
    old.rig_changes.zero_()
    for value, expected in zip(*(a(state, EYE).fields().values() for a in (new, old))):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("frequencies", [0, 1, 4])
def test_encodings_without_gradients_are_the_same_numbers(frequencies):
    points = torch.randn(77, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = encode(points, frequencies)
    assert expected.requires_grad and torch.equal(encode(points.detach(), frequencies), expected)
