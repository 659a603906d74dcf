"""The viewer without a browser: names, cameras, the recording's transport, what is shown, what is
saved."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.face_parts import FACE_PARTS, OTHER, grouped
from likeness.playback.player import Player
from likeness.playback.viewer import orbit
from likeness.playback.viewer.display import Display, Settings, carried_over, driven
from likeness.playback.viewer.saving import png, save_tuned
from likeness.playback.viewer.transport import Transport
from likeness.scene.camera import Camera
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.transforms import matrices_to_quats, transform_points
from tests import toys
from tests.contract.test_avatars import EXTENDED, make


def seen_from(start: orbit.InitialView, aspect: float = 1.0) -> orbit.Viewpoint:
    """The view of a browser that stands at its start."""
    eye, target, up = (torch.tensor(vector) for vector in (start.position, start.look_at, start.up))
    camera = Camera.looking_at(torch.eye(3), eye, target, up, 1, 1)
    quat = matrices_to_quats(camera.T_world_cam[:3, :3])
    return orbit.Viewpoint(tuple(quat.tolist()), start.position, start.fov, aspect)


@pytest.fixture(scope="module")
def bundle() -> AvatarBundle:
    return toys.bundle(make("headgas", EXTENDED))


# Names


def test_every_expression_of_the_head_model_has_a_place_and_a_name_of_its_own():
    from likeness.head_models import HEAD_MODELS

    names = tuple(HEAD_MODELS["anny"]().expression_names)
    parts = grouped(names)
    controls = [control for controls in parts.values() for control in controls]
    assert OTHER not in parts and list(parts) == list(FACE_PARTS)
    assert sorted(control.index for control in controls) == list(range(52))
    assert all(names[control.index] == control.name for control in controls)
    assert len({control.label for control in controls}) == 52


def test_unknown_expressions_come_last_and_empty_parts_are_left_out():
    parts = grouped(("smirk", "jawOpen", "earWiggle"))
    assert list(parts) == ["Jaw and tongue", OTHER]
    assert [(control.index, control.label) for control in parts[OTHER]] == [
        (0, "smirk"),
        (2, "earWiggle"),
    ]


# Cameras


def test_the_first_view_is_the_recordings_camera(bundle):
    camera = orbit.camera_of(
        seen_from(orbit.initial_view(bundle)), bundle.default_state.T_world_head, 32, 32
    )
    torch.testing.assert_close(camera.K, bundle.default_camera.K, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        camera.T_cam_world, bundle.default_camera.T_cam_world, atol=1e-5, rtol=0
    )


def test_a_crop_beside_the_optical_axis_is_looked_at_in_its_middle(bundle):
    crop = dataclasses.replace(bundle, default_camera=bundle.default_camera.cropped(20, -9, 24, 24))
    start = orbit.initial_view(crop)
    camera = orbit.camera_of(seen_from(start), crop.default_state.T_world_head, 24, 24)
    world = transform_points(crop.default_state.T_world_head, torch.tensor([start.look_at]))
    for pixels, _ in (camera.project(world), crop.default_camera.project(world)):
        torch.testing.assert_close(pixels, torch.tensor([[12.0, 12.0]]), atol=1e-3, rtol=0)


def test_views_of_two_worlds_show_the_heads_in_the_same_place():
    view = orbit.Viewpoint((0.2, 0.9, 0.1, -0.3), (0.3, 0.1, 0.6), 0.7, 1.5)
    points, places = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)) * 0.1, []
    for pose in (toys.head_pose(), toys.head_pose(0.6, 2.0)):
        camera = orbit.camera_of(view, pose, 300, 200)
        places.append(camera.project(transform_points(pose, points))[0])
    torch.testing.assert_close(places[0], places[1], atol=2e-2, rtol=1e-3)


def test_the_vertical_field_of_view_is_the_height():
    # looks along -z of the head, y up
    view = orbit.Viewpoint((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.5, 2.0)
    camera = orbit.camera_of(view, torch.eye(4), 400, 200)
    top = torch.tensor([[0.0, math.tan(0.25), 0.0]])
    torch.testing.assert_close(
        camera.project(top)[0], torch.tensor([[200.0, 0.0]]), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    "size, aspect, count, expected",
    [
        (512, 1.5, 1, (768, 512)),
        (512, 1.5, 2, (384, 512)),
        (512, float("nan"), 1, (512, 512)),
        (512, 0.0, 1, (512, 512)),
        (2048, 3.0, 1, (2048, 2048)),
        (256, 0.01, 1, (16, 256)),
    ],
)
def test_picture_sizes_follow_the_browser_within_bounds(size, aspect, count, expected):
    assert orbit.image_size(size, aspect, count) == expected


# The recording


def test_a_recording_plays_by_its_own_times():
    t = Transport([10.0, 10.1, 10.4, 10.5])
    assert t.frame(0) == 0 and not t.playing
    t.play(100.0)
    assert [t.frame(100 + s) for s in (0, 0.09, 0.1, 0.39, 0.41, 0.5)] == [0, 0, 1, 1, 2, 3]
    # the last frame lasts as long as the mean one
    assert t.frame(100.66) == 3 and t.frame(100.67) == 0
    t.pause(100.45)
    assert t.frame(300) == 2
    t.play(400)
    assert t.frame(400.05) == 3  # goes on where it stood


def test_scrubbing_and_speed():
    t = Transport([0.0, 1.0, 2.0, 3.0])
    t.scrub(2, 5.0)
    assert t.frame(9.0) == 2
    t.play(10.0)
    t.set_speed(2.0, 10.5)
    assert (t.frame(10.7), t.frame(10.8)) == (2, 3)  # half a second at 1x, then twice as fast
    t.scrub(99, 11.0)
    assert t.frame(11.0) == 3
    t.scrub(-4, 11.0)
    assert t.frame(11.2) == 0 and t.frame(11.5) == 1


def test_a_recording_of_one_frame_stays_on_it():
    t = Transport([3.0])
    t.play(0.0)
    assert {t.frame(now) for now in (0.0, 0.03, 1.0, 1e6)} == {0}
    with pytest.raises(ValueError, match="at least one frame"):
        Transport([])


# What is shown


def identity() -> tuple[ExpressionTuning, ...]:
    return (ExpressionTuning.identity(52),)


def test_sliders_add_to_the_recording_up_to_one(bundle):
    sliders = torch.zeros(52)
    sliders[3] = 0.4
    state = driven(bundle, Settings(sliders, identity()), 5)
    torch.testing.assert_close(state.expression[4:], bundle.recording.expression[5, 4:])
    assert state.expression[3] == min(1, float(bundle.recording.expression[5, 3]) + 0.4)
    assert torch.equal(state.T_world_head, bundle.recording.T_world_head[5])
    still = driven(bundle, Settings(sliders, identity(), still=True), 5)
    assert torch.equal(still.T_world_head, bundle.default_state.T_world_head)
    rest = driven(bundle, Settings(sliders, identity(), recording=False), 5)
    assert torch.equal(rest.expression, sliders) and torch.equal(
        rest.T_world_head, still.T_world_head
    )


def test_another_avatar_is_driven_by_names_and_from_its_own_rest(bundle):
    rest = dataclasses.replace(bundle.default_state, T_world_head=toys.head_pose(0.5, 2.0))
    names = ("x", *reversed(bundle.expression_names[1:]))
    other = dataclasses.replace(
        bundle, expression_names=names, joint_names=("b", "c"), default_state=rest
    )
    state = toys.random_states(())
    carried = carried_over(state, bundle, other)
    assert carried.expression[0] == 0 and torch.equal(
        carried.expression[1:], state.expression[1:].flip(0)
    )
    assert torch.equal(carried.joints[0], state.joints[1])
    inverse = torch.linalg.inv
    torch.testing.assert_close(
        inverse(rest.T_world_head) @ carried.T_world_head,
        inverse(bundle.default_state.T_world_head) @ state.T_world_head,
        atol=1e-5,
        rtol=0,
    )
    torch.testing.assert_close(carried.T_head_body, state.T_head_body, atol=1e-5, rtol=0)


def test_the_picture_is_the_players_and_two_stand_side_by_side(bundle):
    view, colour = seen_from(orbit.initial_view(bundle)), (0.2, 0.4, 0.6)
    display = Display([bundle], size=32)
    display.update(background=colour)
    display.control(lambda t, now: t.scrub(4, now))
    alone = display.image(view, display.settings, display.frame())
    expected = Player(bundle).step(bundle.recording[4], background=torch.tensor(colour)).rgb
    assert (
        alone.dtype == np.uint8 and abs(alone / 255 - expected.clamp(0, 1).numpy()).max() < 3 / 255
    )
    pair = Display([bundle, toys.bundle(make("gaussianhead", EXTENDED))], size=32)
    pair.update(background=colour)
    pair.control(lambda t, now: t.scrub(4, now))
    both = pair.image(dataclasses.replace(view, aspect=2.0), pair.settings, pair.frame())
    assert both.shape == (32, 64, 3) and np.array_equal(both[:, :32], alone)
    assert np.abs(both[:, 32:].astype(int) - alone).max() > 20


def test_coarse_shows_leave_the_screen_refiner_out(bundle):
    view, refined = seen_from(orbit.initial_view(bundle)), toys.refined(bundle)
    shown, coarse, plain = (
        display.image(view, display.settings, 4)
        for display in (
            Display([refined], size=32),
            Display([refined], size=32, refine=False),
            Display([bundle], size=32),
        )
    )
    assert np.array_equal(coarse, plain) and not np.array_equal(shown, plain)


def test_beyond_the_recording_avatars_are_held_unless_it_is_not_wanted(bundle):
    start = orbit.initial_view(bundle)
    beside = seen_from(dataclasses.replace(start, position=(0.7, 0.0, 0.3)))
    shows = [Display([bundle], size=32, clamp_views=clamp) for clamp in (True, False)]
    shows[0].look_through()
    held, plain = (display.image(beside, display.settings, 4) for display in shows)
    camera = orbit.camera_of(beside, bundle.default_state.T_world_head, 32, 32)
    for picture, clamp in ((held, True), (plain, False)):
        expected = (
            Player(bundle)
            .step(bundle.recording[4], camera, torch.ones(3), clamp_views=clamp)
            .rgb.clamp(0, 1)
        )
        assert abs(picture / 255 - expected.numpy()).max() < 3 / 255
    assert not np.array_equal(held, plain)
    here = seen_from(start)
    assert np.array_equal(*(display.image(here, display.settings, 4) for display in shows))


def test_tuning_is_seen_and_this_face_can_become_the_neutral(bundle):
    display, view = Display([bundle], size=24), seen_from(orbit.initial_view(bundle))
    display.set_slider(7, 0.8)
    with_slider = display.image(view, display.settings, 3)
    display.control(lambda t, now: t.scrub(3, now))
    display.set_tuning(0, display.with_this_face_at_rest(0))
    display.update(sliders=torch.zeros(52), recording=False)
    at_rest = display.image(view, display.settings, 0)
    display.update(recording=True, still=True)
    torch.testing.assert_close(
        display.settings.tunings[0].neutral[7], driven_slider(bundle, 7, 0.8)
    )
    # the head rests, the face is the same
    assert np.abs(at_rest.astype(int) - with_slider).max() > 2


def driven_slider(bundle: AvatarBundle, index: int, value: float) -> torch.Tensor:
    return (bundle.recording.expression[3, index] + value).clamp(max=1)


def test_a_replaced_avatar_shows_in_the_next_picture(bundle):
    display, view = Display([bundle], size=24), seen_from(orbit.initial_view(bundle))
    before = display.image(view, display.settings, 0)
    display.replace_avatar(toys.bundle(make("headgas", EXTENDED, seed=3)))
    assert np.abs(display.image(view, display.settings, 0).astype(int) - before).max() > 5


# What is saved


def test_a_tuned_avatar_is_saved_as_a_new_bundle(bundle, tmp_path):
    tuning = ExpressionTuning(torch.full((52,), 0.1), torch.full((52,), 1.3))
    folder = save_tuned(Player(bundle).bundle, tuning, tmp_path, " smiling ")
    assert folder == tmp_path / "smiling" and [path.name for path in tmp_path.iterdir()] == [
        "smiling"
    ]
    state = toys.random_states(())
    expected = Player(dataclasses.replace(bundle, tuning=tuning)).step(state).rgb
    torch.testing.assert_close(Player(folder).step(state).rgb, expected, atol=1e-6, rtol=0)
    with pytest.raises(
        UserError, match="exists already and is not overwritten; choose another name"
    ):
        save_tuned(bundle, tuning, tmp_path, "smiling")


@pytest.mark.parametrize("name", ["", "  ", "..", ".hidden", "a/b", "/etc", "a\\b", "a\nb"])
def test_names_that_lead_elsewhere_are_refused(bundle, tmp_path, name):
    with pytest.raises(UserError, match="not a name for a folder"):
        save_tuned(bundle, ExpressionTuning.identity(52), tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_written_leaves_nothing(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        save_tuned(bundle, ExpressionTuning.identity(52), tmp_path / "file", "new")


def test_a_screenshot_is_the_picture():
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(png(picture), np.uint8), 1)[..., ::-1], picture
    )
