"""The public Avatar: states by names, images, clouds, drivers, exports, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from likeness import Avatar, HeadState, UserError
from likeness.fitting.bundle import AvatarBundle
from likeness.playback.expression_names import matching
from likeness.playback.player import Player
from likeness.playback.state_file import load_states, save_states
from likeness.scene.gaze import GAZE_FULL_RAD, quats_to_gaze
from likeness.scene.transforms import rotation_angles
from tests import arkit, toys
from tests.documentation import code_under


@pytest.fixture(scope="module")
def avatar(tmp_path_factory) -> Avatar:
    run = tmp_path_factory.mktemp("run")
    toys.arkit_bundle().save(run / "bundle")
    return Avatar.load(run, device="cpu")


def test_a_run_and_its_bundle_are_the_same_avatar(avatar, tmp_path):
    avatar.bundle.save(tmp_path / "bundle")
    runs = [Avatar.load(tmp_path, "cpu"), Avatar.load(str(tmp_path / "bundle"), "cpu")]
    images = [run.render(size=24) for run in runs]
    np.testing.assert_array_equal(*images)
    assert "52 expressions of anny" in repr(runs[0])


@pytest.mark.parametrize(
    "name, full",
    [
        ("jawOpen", ["jawOpen"]),
        ("mouthSmileLeft", ["mouthSmileLeft"]),
        ("mouthSmile", ["mouthSmileLeft", "mouthSmileRight"]),
        ("smile", ["mouthSmileLeft", "mouthSmileRight"]),
        ("Smile", ["mouthSmileLeft", "mouthSmileRight"]),
        ("smileRight", ["mouthSmileRight"]),
        ("blink", ["eyeBlinkLeft", "eyeBlinkRight"]),
        ("jawLeft", ["jawLeft"]),
        ("puff", ["cheekPuff"]),
        ("lookUp", ["eyeLookUpLeft", "eyeLookUpRight"]),
    ],
)
def test_short_names(avatar, name, full):
    assert matching(name, avatar.expression_names) == full
    expression = avatar.state(**{name: 0.7}).expression
    on = [n for n, value in zip(avatar.expression_names, expression) if value != 0]
    assert on == full and float(expression.max()) == pytest.approx(0.7)


def test_every_full_name_stands_for_itself(avatar):
    assert [matching(name, avatar.expression_names) for name in avatar.expression_names] == [
        [name] for name in avatar.expression_names
    ]


@pytest.mark.parametrize(
    "name, message",
    [
        ("smil", "did you mean smile"),
        ("jawOpenn", "did you mean jawOpen"),
        ("squint", "ambiguous.*eyeSquintLeft.*cheekSquintRight"),
        ("left", "ambiguous.*jawLeft, mouthLeft"),
        ("jaw", "expected one of jawForward, jawLeft"),
    ],
)
def test_unknown_and_ambiguous_names(avatar, name, message):
    with pytest.raises(ValueError, match=message) as error:
        avatar.state(**{name: 1})
    assert "\n" not in str(error.value)


def test_full_names_win_over_short_ones_in_any_order(avatar):
    states = avatar.state(smile=1, mouthSmileLeft=0.2), avatar.state(mouthSmileLeft=0.2, smile=1)
    for state in states:
        values = dict(zip(avatar.expression_names, state.expression.tolist()))
        assert values["mouthSmileRight"] == 1 and values["mouthSmileLeft"] == pytest.approx(0.2)


def test_angles_rotate_the_head_alone(avatar):
    rest, state = avatar.bundle.default_state, avatar.state(yaw=10, pitch=20, roll=-5)
    assert torch.equal(state.T_world_body, rest.T_world_body)
    for name, axis, sign in (("yaw", (1, 0, 0), 1), ("pitch", (0, 1, 0), 1), ("roll", None, 1)):
        posed = avatar.state(**{name: 10.0}).T_world_head[:3, :3]
        rotation = rest.T_world_head[:3, :3].T @ posed
        assert float(rotation_angles(rotation)) == pytest.approx(math.radians(10), abs=1e-5)
        if axis is not None:  # the face's direction goes to the subject's left, or up
            moved = sign * float(rotation[:, 2] @ torch.tensor(axis, dtype=torch.float32))
            assert moved == pytest.approx(math.sin(math.radians(10)), abs=1e-5)
        else:  # the subject's left side rises
            assert float(rotation[1, 0]) == pytest.approx(math.sin(math.radians(10)), abs=1e-5)


def test_looking_turns_the_eyes(avatar):
    angles = quats_to_gaze(avatar.state(lookUp=0.5).joints)
    expected = torch.tensor([0.0, 0.5 * GAZE_FULL_RAD]).expand(2, 2)
    torch.testing.assert_close(angles, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("values", [{"yaw": math.nan}, {"yaw": "a"}, {"jawOpen": math.inf}])
def test_values_are_finite(avatar, values):
    with pytest.raises(ValueError, match="expected"):
        avatar.state(**values)


def test_an_image_is_the_players(avatar):
    state = avatar.state(jawOpen=1)
    camera = avatar.bundle.default_camera
    image = avatar.render(state, camera)
    output = (
        Player(avatar.bundle).step(state, camera, torch.ones(3), clamp_views=True).rgb.clamp(0, 1)
    )
    assert image.dtype == np.uint8 and image.shape == (camera.height, camera.width, 3)
    np.testing.assert_allclose(image, output.numpy() * 255, atol=0.51)
    assert (avatar.render(size=32) != avatar.render(state, size=32)).any()


def test_sizes(avatar):
    assert avatar.render().shape == (512, 512, 3)
    assert avatar.render(size=20).shape == (20, 20, 3)
    assert avatar.render(size=(40, 20)).shape == (20, 40, 3)
    assert avatar.render(camera=avatar.camera(20, size=(30, 24))).shape == (24, 30, 3)
    for size in (0, 10**6, (5, 0), 2.5, "512", (1, 2, 3)):
        with pytest.raises(ValueError, match="size: expected 1 to 8192"):
            avatar.render(size=size)


@pytest.mark.parametrize(
    "background, colour",
    [
        ("white", (255, 255, 255)),
        ("black", (0, 0, 0)),
        ("navy", (0, 0, 128)),
        ("#102030", (16, 32, 48)),
        ((1, 0.5, 0), (255, 128, 0)),
        (None, (0, 0, 0, 0)),
    ],
)
def test_backgrounds(avatar, background, colour):
    far = avatar.camera(distance=20, size=16)
    image = avatar.render(camera=far, background=background)
    assert tuple(image[0, 0]) == colour and image.shape == (16, 16, len(colour))


@pytest.mark.parametrize("background", ["whit", "#12", "no.png", (1, 2, 3), (0.5, 0.5), 3])
def test_bad_backgrounds_are_one_line(avatar, background):
    with pytest.raises(ValueError, match="background") as error:
        avatar.render(size=8, background=background)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [{"fov": 0}, {"fov": 180}, {"distance": 0}, {"pitch": None}])
def test_cameras_have_ranges(avatar, values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}: expected a number"):
        avatar.camera(**values)


def test_what_is_no_state_or_camera_is_refused(avatar):
    with pytest.raises(ValueError, match="state: expected a HeadState"):
        avatar.render({"smile": 1})
    with pytest.raises(ValueError, match="camera: expected a Camera"):
        avatar.cloud(camera="front")


def test_records_show_the_shapes_of_their_tensors(avatar):
    assert repr(avatar.state()).startswith("HeadState(expression=[52], joints=[2, 4]")
    assert repr(avatar.camera(size=(30, 20))).endswith("width=30, height=20)")


def test_cameras_go_round_the_head(avatar):
    here, left, above = avatar.camera(), avatar.camera(yaw=30), avatar.camera(pitch=30)
    T_head_world = torch.linalg.inv(avatar.bundle.default_state.T_world_head)

    def centre(camera):
        return (T_head_world @ torch.cat([camera.center, torch.ones(1)]))[:3]

    assert centre(left)[0] > centre(here)[0] + 0.1 and centre(above)[1] > centre(here)[1] + 0.1
    near = avatar.camera(distance=0.5, fov=60, size=64)
    assert 0.4 < float(centre(near).norm()) < 0.6
    assert float(near.K[0, 0]) == pytest.approx(32 / math.tan(math.radians(30)), rel=1e-4)


def test_a_cloud_is_what_is_rendered(avatar):
    state = avatar.state(jawOpen=1)
    cloud = avatar.cloud(state)
    assert cloud.means.shape == (avatar.bundle.avatar.num_gaussians, 3)
    eye = avatar.bundle.default_camera.in_frame(state.T_world_head).center
    torch.testing.assert_close(cloud.means, avatar.bundle.avatar(state, eye).means)


def test_states_of_others_and_batches_are_refused(avatar):
    with pytest.raises(ValueError, match="expected a single state, got a batch"):
        avatar.render(avatar.recording)
    with pytest.raises(ValueError, match=r"expression: expected \[52\].*got \[3\]"):
        avatar.cloud(HeadState.neutral(3, 2))
    with pytest.raises(ValueError, match=r"joints: expected \[2, 4\].*got \[1, 4\]"):
        avatar.cloud(HeadState.neutral(52, 1))


@pytest.mark.parametrize("kind", ["arkit_csv", "states"])
def test_driving(avatar, kind, tmp_path):
    bundle, (states, times) = avatar.bundle, toys.performance(20)
    if kind == "arkit_csv":
        table = arkit.table(states, bundle.expression_names, times, 60)
        path = arkit.write(tmp_path / "phone.csv", table)
    else:
        path = tmp_path / "states.npz"
        save_states(path, states, 25.0, bundle.expression_names, bundle.joint_names)
    recording = avatar.drive(path)
    assert len(recording) == 20 and recording.fps == pytest.approx(25, abs=0.1)
    images = [avatar.render(state, size=16) for state in recording]
    assert len(images) == 20 and len({image.tobytes() for image in images}) > 10
    # its own recording, unsmoothed, drives it as it was
    own = tmp_path / "own.npz"
    save_states(own, avatar.recording, 25.0, bundle.expression_names, bundle.joint_names)
    driven = avatar.drive(own, smoothing_s=0).states.expression
    torch.testing.assert_close(driven, avatar.recording.expression, atol=0.02, rtol=0)
    assert load_states(own, bundle.expression_names, bundle.joint_names)[1] == 25.0


def test_bad_drivers(avatar, tmp_path):
    for source, kind in (("nowhere.mp4", None), (tmp_path, None), ("x", "vidoe")):
        with pytest.raises(UserError):
            avatar.drive(source, kind)


def test_exports(avatar, tmp_path):
    facts = avatar.export(tmp_path / "a.ply", axes="y-up")
    assert facts["bytes"] == (tmp_path / "a.ply").stat().st_size and facts["axes"] == "y-up"
    avatar.export(tmp_path / "a.spz", states=avatar.state(smile=1))
    avatar.export(tmp_path / "frames", "ply", avatar.recording[:3])
    assert len(list((tmp_path / "frames").iterdir())) == 3
    avatar.export(tmp_path / "exact", "bundle", exact=True)
    small = Avatar.load(tmp_path / "exact", "cpu")
    difference = small.render(size=32).astype(int) - avatar.render(size=32)
    assert np.abs(difference).max() <= 8
    with pytest.raises(UserError, match="not overwritten"):
        avatar.export(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "path, arguments, message",
    [
        ("a", {}, "expected a format, one of ply, spz, bundle, web"),
        ("a.obj", {}, "expected a format"),
        ("a", {"format": "plyy"}, "did you mean ply"),
        ("a.ply", {"code": 3}, "no option 'code'"),
        ("a.ply", {"codes": 3}, "codes: the format ply does not read it"),
        ("a.ply", {"axes": "up"}, "axes up: unknown"),
    ],
)
def test_bad_exports(avatar, tmp_path, path, arguments, message):
    with pytest.raises(ValueError, match=message):
        avatar.export(tmp_path / path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_nothing_changes_the_avatar(avatar):
    before = {name: tensor.clone() for name, tensor in avatar.bundle.tensors().items()}
    state = avatar.state(smile=1)
    image = avatar.render(state, size=16)
    dataclasses.replace(state, expression=torch.ones(52))
    avatar.cloud(avatar.state(blink=1))
    np.testing.assert_array_equal(avatar.render(state, size=16), image)
    assert all(torch.equal(tensor, before[n]) for n, tensor in avatar.bundle.tensors().items())


def test_a_tuned_avatar_is_shown_and_exported_alike(avatar, tmp_path):
    from likeness.scene.expression_tuning import ExpressionTuning

    tuning = ExpressionTuning(torch.full((52,), 0.1), torch.full((52,), 1.5))
    tuned = Avatar(dataclasses.replace(avatar.bundle, tuning=tuning), "cpu")
    state = avatar.state(jawOpen=0.5)
    assert not torch.equal(tuned.cloud(state).sh, avatar.cloud(state).sh)
    tuned.export(tmp_path / "exact", "bundle", exact=True)
    loaded = AvatarBundle.load(tmp_path / "exact").tuning
    assert loaded is not None and torch.allclose(loaded.gains, tuning.gains)


def test_the_documentation_of_an_avatar_runs(avatar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = code_under("docs/python.md", "An avatar")
    names: dict = {"avatar": avatar}
    exec(code, names)
    assert names["image"].shape == (512, 512, 3) and names["cutout"].shape == (480, 640, 4)
    assert (tmp_path / "me.ply").is_file()
