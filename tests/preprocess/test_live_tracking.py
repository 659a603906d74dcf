"""The live tracker follows what the clip's tracker finds, from the past alone; camera streams open
or say why not."""

from __future__ import annotations

import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.preprocess.camera_stream import CameraStream
from likeness.preprocess.tracking.live import calibrate
from likeness.scene.errors import UserError
from likeness.scene.gaze import quats_to_gaze
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import rotation_angles
from tests import toys
from tests.preprocess.videos import counting_images, read_number, write_video

CALIBRATION = 24


@pytest.fixture(scope="module")
def filmed():
    """A model, a truth [T], its landmarks [T, 478, 2] with a little noise, and the camera."""
    model = HEAD_MODELS["anny"]()
    states, times = toys.performance(60, amount=0.4, rest=0.0, blink=0.8)
    expression = states.expression * (
        torch.rand(52, generator=torch.Generator().manual_seed(1)) > 0.6
    )
    for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"):
        expression[:, model.expression_names.index(name)] = states.expression[
            :, model.expression_names.index(name)
        ]
    look = torch.tensor([name.startswith("eyeLook") for name in model.expression_names])
    states = HeadState(
        torch.where(look, states.expression, expression),
        states.joints,
        states.T_world_head,
        states.T_world_body,
    )
    camera = toys.camera(512)
    points = model.shaped(model.neutral_identity()).posed(states).landmarks()
    pixels, _ = camera.in_frame(states.T_world_head).project(points)
    noise = 0.2 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2))
    return model, states, times, pixels + noise, camera.K


@pytest.fixture(scope="module")
def followed(filmed):
    model, _, times, pixels, K = filmed
    tracker, _ = calibrate(pixels[:CALIBRATION], times[:CALIBRATION], K, model)
    return HeadState.stack([tracker(pixels[i], float(times[i])) for i in range(CALIBRATION, 60)])


def test_it_follows_pose_mouth_blinks_and_gaze(filmed, followed):
    model, states, _, _, _ = filmed
    truth = states[CALIBRATION:]
    turns = [
        x[:1, :3, :3].transpose(1, 2) @ x[:, :3, :3]
        for x in (followed.T_world_head, truth.T_world_head)
    ]
    assert float(torch.rad2deg(rotation_angles(turns[0].transpose(1, 2) @ turns[1])).median()) < 1.5
    for name, least in (("jawOpen", 0.9), ("eyeBlinkLeft", 0.9), ("eyeBlinkRight", 0.9)):
        column = model.expression_names.index(name)
        pair = torch.stack([followed.expression[:, column], truth.expression[:, column]])
        assert float(torch.corrcoef(pair)[0, 1]) > least, name
    gaze = [quats_to_gaze(x.joints)[..., 0].mean(1) for x in (followed, truth)]
    assert float(torch.corrcoef(torch.stack(gaze))[0, 1]) > 0.9
    assert (followed.expression >= 0).all() and (followed.expression <= 1).all()


def test_it_knows_only_the_past(filmed, followed):
    model, _, times, pixels, K = filmed
    tracker, _ = calibrate(pixels[:CALIBRATION], times[:CALIBRATION], K, model)
    again = [tracker(pixels[i], float(times[i])) for i in range(CALIBRATION, 40)]
    torch.testing.assert_close(
        HeadState.stack(again).expression, followed.expression[: 40 - CALIBRATION]
    )


def test_it_finds_the_head_again_after_a_jump(filmed):
    model, states, times, pixels, K = filmed
    tracker, _ = calibrate(pixels[:CALIBRATION], times[:CALIBRATION], K, model)
    # elsewhere after a pause, then elsewhere at once
    for shift, start in ((120.0, 2.0), (-90.0, 2.04)):
        for number in range(6):
            moved = pixels[40 + number] + torch.tensor([shift, 0.0])
            state = tracker(moved, start + number / 250)
        posed = model.shaped(model.neutral_identity()).posed(state).landmarks()
        seen = toys.camera(512).in_frame(state.T_world_head).project(posed)[0]
        assert float((seen - moved).norm(dim=-1).median()) < 4


def test_a_file_stands_for_a_webcam(tmp_path):
    path = write_video(tmp_path / "cam.mp4", counting_images(8))
    stream = CameraStream(str(path))
    frames = list(stream)
    assert not stream.live and (stream.width, stream.height, round(stream.fps)) == (96, 64, 25)
    assert [frame.index for frame in frames] == list(range(8))
    assert [read_number(frame.image) for frame in frames] == pytest.approx(list(range(8)), abs=1)


def test_no_webcam_is_one_line():
    with pytest.raises(UserError, match="--webcam 77: no webcam there"):
        CameraStream("77")
    with pytest.raises(UserError, match="no such file"):
        CameraStream("absent.mp4")
