"""Transfer: rest for rest, amplitudes within what the avatar has shown, blinks whole, poses by
mode."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.playback.transfer.retarget import (
    MotionProfile,
    RetargetConfig,
    rest_state,
    retarget,
    soft_limit,
)
from likeness.scene.errors import UserError
from likeness.scene.gaze import quats_to_gaze
from likeness.scene.transforms import (
    make_transform,
    mean_quats,
    rotation_angles,
    rotvecs_to_matrices,
    rotvecs_to_quats,
)
from tests import toys


@pytest.fixture(scope="module")
def bundle():
    return toys.arkit_bundle()


@pytest.fixture(scope="module")
def avatar(bundle):
    return MotionProfile.of_avatar(bundle)


def person(bundle, states, **kwargs) -> MotionProfile:
    return MotionProfile.of_states(states, bundle.expression_names, bundle.joint_names, **kwargs)


def test_the_avatars_own_recording_comes_back(bundle, avatar):
    own = bundle.recording
    result = retarget(own, person(bundle, own), avatar)
    assert float((result.expression - own.expression).abs().max()) < 0.02
    for name in ("joints", "T_world_head", "T_world_body"):
        torch.testing.assert_close(getattr(result, name), getattr(own, name), atol=1e-4, rtol=0)


def test_rest_goes_to_rest(bundle, avatar):
    states, _ = toys.performance(rest=0.2, amount=0.4)
    driver = person(bundle, states)
    result = retarget(driver.rest.map(lambda tensor: tensor[None]), driver, avatar)[0]
    torch.testing.assert_close(result.expression, avatar.rest.expression, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.T_world_head, avatar.rest.T_world_head, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.joints, avatar.rest.joints, atol=1e-3, rtol=0)


def test_a_named_frame_is_rest(bundle):
    states, _ = toys.performance()
    assert torch.equal(person(bundle, states, neutral=7).rest.expression, states.expression[7])
    with pytest.raises(UserError, match="neutral: the driver has frames 0 to 39, got 40"):
        rest_state(states, bundle.expression_names, 40)


def test_parted_lips_are_not_rest(bundle):
    names = bundle.expression_names
    states, _ = toys.performance()
    expression = torch.zeros_like(states.expression)
    # mostly speaking, and otherwise as still as can be
    expression[:30, names.index("jawOpen")] = 0.2
    expression[30:, names.index("browInnerUp")] = 0.1
    rest = rest_state(dataclasses.replace(states, expression=expression), names)
    assert float(rest.expression[names.index("jawOpen")]) == 0


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_limits_hold(bundle, avatar, strength):
    states, _ = toys.performance(amount=0.95)
    result = retarget(states, person(bundle, states), avatar, RetargetConfig(strength=strength))
    low, high = bundle.expression_range
    assert (result.expression <= high + 1e-5).all() and (result.expression >= low - 1e-5).all()
    angles = quats_to_gaze(result.joints)
    own = quats_to_gaze(bundle.recording.joints)
    assert (angles <= own.amax((0, 1)) + 1e-4).all() and (angles >= own.amin((0, 1)) - 1e-4).all()


def test_larger_expressions_are_compressed_not_cut(bundle, avatar):
    states, _ = toys.performance(amount=0.95)
    jaw = bundle.expression_names.index("browInnerUp")
    result = retarget(states, person(bundle, states), avatar).expression[:, jaw]
    order = states.expression[:, jaw].argsort()
    steps = result[order].diff()
    assert (steps > -1e-6).all() and float((steps[-8:-2] > 1e-5).float().mean()) == 1


def test_strength_scales_small_changes(bundle, avatar):
    states, _ = toys.performance(amount=0.1, rest=0.05)
    brow = bundle.expression_names.index("browInnerUp")
    driver = person(bundle, states)
    results = [
        retarget(states, driver, avatar, RetargetConfig(strength=s)).expression[:, brow]
        for s in (0.0, 1, 2)
    ]
    assert (results[0] == avatar.rest.expression[brow]).all()
    changes = [result - results[0] for result in results[1:]]
    torch.testing.assert_close(changes[1], 2 * changes[0], atol=2e-3, rtol=0)


@pytest.mark.parametrize("blink, strength", [(0.45, 1.0), (0.95, 1.0), (0.7, 0.1)])
def test_closed_eyes_stay_closed(bundle, avatar, blink, strength):
    states, _ = toys.performance(blink=blink)
    names = bundle.expression_names
    states.expression[10, names.index("eyeWideLeft")] = 0.4
    result = retarget(
        states, person(bundle, states), avatar, RetargetConfig(strength=strength)
    ).expression
    for side in ("Left", "Right"):
        column = names.index(f"eyeBlink{side}")
        assert float(result[10, column]) == pytest.approx(float(avatar.closed[0]), abs=1e-5)
        assert float(result[5, column]) == pytest.approx(
            float(avatar.rest.expression[column]), abs=0.02
        )
    wide = names.index("eyeWideLeft")
    assert float(result[10, wide]) <= float(avatar.rest.expression[wide]) + 1e-6


def test_a_live_driver_needs_no_past(bundle, avatar):
    states, _ = toys.performance()
    driver = person(bundle, states[:8]).unlimited()
    names = bundle.expression_names
    result = retarget(states, driver, avatar)
    assert float(result.expression[10, names.index("eyeBlinkLeft")]) == pytest.approx(
        float(avatar.closed[0]), abs=1e-5
    )
    assert (result.expression <= bundle.expression_range[1] + 1e-5).all()


def test_poses(bundle, avatar):
    states, _ = toys.performance()
    turn = make_transform(
        rotvecs_to_matrices(torch.tensor([0.1, 0.4, 0.0])), torch.tensor([0.1, -0.2, 0.5])
    )
    head, body = turn @ states.T_world_head, turn @ states.T_world_body
    moved = dataclasses.replace(states, T_world_head=head, T_world_body=body)
    driver = person(bundle, moved)
    relative = retarget(moved, driver, avatar)
    # where it sat: no matter
    torch.testing.assert_close(relative.T_world_head, states.T_world_head, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        relative.T_world_body, bundle.recording.T_world_body, atol=1e-4, rtol=0
    )
    absolute = retarget(moved, driver, avatar, RetargetConfig(pose="absolute")).T_world_head
    torch.testing.assert_close(absolute[:, :3, :3], moved.T_world_head[:, :3, :3])
    torch.testing.assert_close(
        absolute[:, :3, 3].mean(0), avatar.rest.T_world_head[:3, 3], atol=1e-4, rtol=0
    )
    still = retarget(moved, driver, avatar, RetargetConfig(pose="none"))
    assert (still.T_world_head == avatar.rest.T_world_head).all()
    rest = retarget(moved, driver, avatar, RetargetConfig(body="rest"))
    assert (rest.T_world_body == avatar.rest.T_world_body).all()


def test_settings_are_checked():
    for bad in ({"pose": "sideways"}, {"body": "away"}, {"strength": -1.0}):
        with pytest.raises(UserError, match=next(iter(bad))):
            RetargetConfig(**bad)


def test_soft_limit():
    change = torch.linspace(0, 2, 201)[:, None]
    result = soft_limit(change, torch.tensor([0.4]), torch.tensor([1.0]))[:, 0]
    assert float(result[1]) == pytest.approx(0.01, rel=0.02)  # slope 1 at rest
    assert float(result[100]) == pytest.approx(0.4) and float(result.max()) <= 0.4 + 1e-6
    assert (result.diff() > -1e-7).all()
    torch.testing.assert_close(
        soft_limit(change[:40], torch.tensor([0.4]), torch.tensor([0.2])), change[:40]
    )
    assert (soft_limit(change, torch.tensor([0.0]), torch.tensor([0.5])) == 0).all()


def test_the_mean_of_rotations_does_not_mind_signs():
    quats = rotvecs_to_quats(torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.4, 0.0], [0.1, 0.3, 0.0]]))[
        :, None
    ]
    mean = mean_quats(quats * torch.tensor([1.0, -1.0, 1.0])[:, None, None])
    expected = rotvecs_to_matrices(torch.tensor([[0.1, 0.3, 0.0]]))
    from likeness.scene.transforms import quats_to_matrices

    assert float(rotation_angles(quats_to_matrices(mean).transpose(1, 2) @ expected)) < 1e-3
