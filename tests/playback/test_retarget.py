"""Transfer: rest for rest, amplitudes whole and within limits, lips and lids closed for closed,
poses by mode."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.playback.transfer.lips import OPENING_MM, effects, meeting, opening, with_opening
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
from tests.contract.test_avatars import EXTENDED, make


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
    # lips as far from where they meet as the driver's, all else at rest
    apart, own = (opening(person.rest.expression, avatar.names) for person in (driver, avatar))
    moved = float(apart - driver.lips_meet + avatar.lips_meet - own)
    assert float(opening(result.expression, avatar.names) - own) == pytest.approx(moved, abs=1e-3)
    still = effects(avatar.names) == 0
    change = (result.expression - avatar.rest.expression).abs()
    assert float(change[still].max()) < 1e-5 and float(change.max()) < 0.05
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


def test_rest_is_the_quietest_of_the_frames_with_closed_lips(bundle):
    """Most are pulled aside, and pressed more tightly."""
    names = bundle.expression_names
    states, _ = toys.performance()
    expression = torch.zeros_like(states.expression)
    expression[:25, names.index("mouthLeft")] = 0.5
    expression[:25, names.index("mouthPressLeft")] = 0.3
    rest = rest_state(dataclasses.replace(states, expression=expression), names)
    assert float(rest.expression[names.index("mouthLeft")]) == 0


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_limits_hold(bundle, avatar, strength):
    states, _ = toys.performance(amount=0.95)
    result = retarget(states, person(bundle, states), avatar, RetargetConfig(strength=strength))
    low, high = bundle.expression_range
    assert (result.expression <= high + 1e-5).all() and (result.expression >= low - 1e-5).all()
    angles = quats_to_gaze(result.joints)
    own = quats_to_gaze(bundle.recording.joints)
    assert (angles <= own.amax((0, 1)) + 1e-4).all() and (angles >= own.amin((0, 1)) - 1e-4).all()


def whole(bundle) -> MotionProfile:
    """Of an avatar that shows expressions that its recording did not have."""
    return person(bundle, bundle.recording).whole()


def test_amplitudes_arrive_whole_where_the_face_can(bundle):
    """The avatar's recording has half of the driver's range."""
    states, _ = toys.performance(amount=0.9)
    driver, avatar = (
        dataclasses.replace(p, rest=dataclasses.replace(p.rest, expression=torch.full((52,), 0.05)))
        for p in (person(bundle, states), whole(bundle))
    )
    result = retarget(states, driver, avatar).expression
    mouth = effects(avatar.names) != 0
    lids = torch.tensor([name.startswith("eye") for name in avatar.names])
    for column in (~mouth & ~lids).nonzero()[:, 0].tolist():
        arrived, sent = (torch.aminmax(x[:, column]) for x in (result, states.expression))
        assert float(arrived.max - arrived.min) >= 0.93 * float(sent.max - sent.min)
    assert float(result.max()) > 0.9 and (result <= 1).all() and (result >= avatar.low).all()
    apart = [
        opening(x, avatar.names) - profile.lips_meet
        for x, profile in ((states.expression, driver), (result, avatar))
    ]
    torch.testing.assert_close(apart[1], apart[0], atol=0.05, rtol=0)


def test_only_avatars_that_show_the_unseen_leave_their_recording(bundle, avatar):
    assert not bundle.avatar.shows_unseen
    assert (avatar.high <= bundle.expression_range[1]).all()
    rigged = toys.bundle(make("rigged", EXTENDED), 32)
    assert rigged.avatar.shows_unseen
    profile = MotionProfile.of_avatar(rigged)
    assert (profile.low <= 0).all() and (profile.high >= 1).all()


def test_an_eye_that_never_closed_closes_as_the_head_models(bundle):
    states, _ = toys.performance(blink=0.1)
    ajar = dataclasses.replace(bundle, recording=states)
    assert float(whole(ajar).closed[0]) == 1
    half, _ = toys.performance(blink=0.5)
    assert float(whole(dataclasses.replace(bundle, recording=half)).closed[0]) > 0.85
    blinking, _ = toys.performance(blink=0.45)
    driver = person(bundle, blinking)
    column = bundle.expression_names.index("eyeBlinkLeft")
    result = retarget(blinking, driver, whole(ajar)).expression[:, column]
    assert float(result[10]) == pytest.approx(1, abs=1e-5)  # half a range reaches the whole one
    assert (result <= 1).all()


@pytest.mark.parametrize("unseen", [False, True])
def test_lips_meet_where_the_drivers_do(bundle, unseen):
    """Also where the avatar's person was at rest with parted lips."""
    names = bundle.expression_names
    states, _ = toys.performance(rest=0.0, amount=0.3)
    states.expression[15:18, :] = 0
    own = bundle.recording.map(torch.clone)
    own.expression[:, names.index("jawOpen")] += 0.15
    own.expression[-2:, names.index("jawOpen")] = 0.02
    own.expression[-2:, names.index("mouthFunnel")] = 0
    other = dataclasses.replace(bundle, recording=own)
    avatar = whole(other) if unseen else MotionProfile.of_avatar(other)
    driver = person(bundle, states)
    result = opening(retarget(states, driver, avatar).expression, names) - avatar.lips_meet
    speaking = opening(states.expression, names) - driver.lips_meet
    torch.testing.assert_close(result[15:18], speaking[15:18], atol=0.05, rtol=0)
    assert float(torch.corrcoef(torch.stack([result, speaking]))[0, 1]) > 0.95


def test_the_opening_is_the_head_models(bundle):
    from likeness.head_models import HEAD_MODELS
    from likeness.head_models.landmarks import LIP_PAIRS

    model = HEAD_MODELS["anny"]()
    upper, lower = (list(side) for side in zip(*LIP_PAIRS[:3]))
    height = model.landmark_vertices(model.expression_basis)[..., 1] * 1000
    measured = (height[:, upper] - height[:, lower]).mean(-1)
    torch.testing.assert_close(effects(model.expression_names), measured, atol=0.3, rtol=0)
    assert set(OPENING_MM) <= set(model.expression_names)


def test_an_opening_is_reached_by_the_smallest_change(bundle):
    names = bundle.expression_names
    low, high = torch.zeros(len(names)), torch.ones(len(names))
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(64, len(names), generator=generator) * 0.4
    start[:, names.index("mouthClose")] *= 0.2
    wanted = torch.linspace(-6, 20, 64)
    result = with_opening(start, wanted, names, low, high)
    torch.testing.assert_close(opening(result, names), wanted, atol=0.02, rtol=0)
    assert (result >= 0).all() and (result <= 1).all()
    assert (result == start)[:, effects(names) == 0].all()
    assert (with_opening(result, opening(result, names), names, low, high) - result).abs().max() < (
        1e-6
    )
    # what cannot be reached is approached, and a jaw at its limit opens no other shape
    high[names.index("jawOpen")] = 0.1
    closed = torch.zeros(1, len(names))
    result = with_opening(closed, torch.tensor([30.0]), names, low, high)
    assert float(result.sum()) == pytest.approx(0.1)


def test_lips_of_a_recording_meet_where_they_are_closed(bundle):
    names = bundle.expression_names
    expression = torch.zeros(100, len(names))
    expression[:, names.index("jawOpen")] = 0.3
    assert float(meeting(expression, names)) == 0  # never closed: as the neutral face at most
    expression[:5] = 0
    expression[:5, names.index("mouthRollLower")] = 0.5
    assert float(meeting(expression, names)) == pytest.approx(0.5 * OPENING_MM["mouthRollLower"])


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
