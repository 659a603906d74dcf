"""Camera paths: every way to say a camera, motion between keyframes, and each mistake named by
file, frame, field."""

from __future__ import annotations

import json
import math

import pytest
import torch

from likeness.playback.views.camera_path import load_camera_path
from likeness.scene.camera import Camera
from likeness.scene.errors import UserError
from likeness.scene.transforms import make_transform, rotation_angles, rotvecs_to_matrices
from tests import toys

RECORDED = toys.camera(64)
TURN = make_transform(
    rotvecs_to_matrices(torch.tensor([0.1, 0.5, -0.2])), torch.tensor([0.1, -0.2, 0.9])
)
AIM = {"eye": [0, 0, 1], "target": [0, 0, 0]}


def document(*frames, **top):
    base = {"format": "camera_path", "format_version": 1, "fps": 25, "width": 96, "height": 64}
    return {**base, "frames": list(frames), **top}


@pytest.fixture
def load(tmp_path):
    def load(content):
        path = tmp_path / "path.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load_camera_path(path, RECORDED)

    return load


def test_matrices_are_taken_as_they_are(load):
    K = [[100.0, 0, 40], [0, 110, 30], [0, 0, 1]]
    path = load(document({"K": K, "T_cam_world": TURN.tolist()}))
    (camera,) = path.cameras
    assert (path.fps, path.relative_to, camera.width, camera.height) == (25.0, "world", 96, 64)
    torch.testing.assert_close(camera.K, torch.tensor(K))
    torch.testing.assert_close(camera.T_cam_world, TURN)


def test_eye_and_target_in_a_head_frame(load):
    path = load(document({**AIM, "eye": [0.5, 0.1, 1], "fov_degrees": 40}, relative_to="head"))
    (camera,) = path.cameras
    pixels, _ = camera.project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]))
    torch.testing.assert_close(pixels[0], torch.tensor([48.0, 32.0]))
    assert pixels[1, 1] < 32  # up is up in the picture
    torch.testing.assert_close(camera.center, torch.tensor([0.5, 0.1, 1.0]))
    assert math.isclose(2 * math.atan(48 / float(camera.K[0, 0])), math.radians(40), rel_tol=1e-6)


def test_without_a_lens_the_recording_s_whole_view_is_shown(load):
    (camera,) = load(document({"T_cam_world": torch.eye(4).tolist()})).cameras
    torch.testing.assert_close(camera.K[:2, 2], torch.tensor([48.0, 32.0]))
    assert float(camera.K[1, 1]) == 2.5 * 64


def test_keyframes_meet_their_cameras_and_move_evenly_between(load):
    entries = [
        {**AIM, "eye": [math.sin(a), 0, math.cos(a)], "time_s": t}
        for a, t in ((0, 0), (0.4, 1), (0.8, 2))
    ]
    content = document(relative_to="rest", keyframes=entries, fps=10)
    del content["frames"]
    cameras = load(content).cameras
    assert len(cameras) == 21
    for frame, entry in zip((0, 10, 20), entries):
        torch.testing.assert_close(
            cameras[frame].center, torch.tensor(entry["eye"]).float(), atol=1e-5, rtol=0
        )
    rotations = Camera.stack(cameras).T_cam_world[:, :3, :3]
    steps = rotation_angles(rotations[1:] @ rotations[:-1].transpose(-1, -2))
    torch.testing.assert_close(steps, torch.full((20,), 0.04), atol=2e-4, rtol=0)
    distance = Camera.stack(cameras).center.norm(dim=-1)
    assert (distance - 1).abs().max() < 0.03  # on a curve near the arc, not on its chords


def _with(matrix, row, column, value):
    matrix = matrix.tolist()
    matrix[row][column] = value
    return matrix


EYE4 = torch.eye(4).tolist()
WRONG = [
    ("{", "cannot be read as the camera path"),
    ([], "expected an object, got a list"),
    (document(EYE4, format="avatar"), "format: expected 'camera_path', got 'avatar'"),
    (document(AIM, format_version=2), "newer than this program"),
    (document(AIM, widht=3), "unknown field 'widht'; did you mean width?"),
    (document(AIM, width=0), "width: expected a whole number from 1"),
    (document(AIM, height=64.5), "height: expected a whole number"),
    (document(AIM, fps="25"), "fps: expected a number above 0"),
    (document(AIM, fps=float("nan")), "cannot be read as the camera path .JSON"),
    (document(AIM, relative_to="body"), "relative_to: expected one of world, rest, head"),
    (document(), "frames: expected a list with at least one entry"),
    (document(AIM, keyframes=[AIM]), "expected either frames or keyframes"),
    (document(AIM, 7), r"frames\[1\]: expected an object"),
    (document({}), r"frames\[0\]: expected either T_cam_world or eye and target"),
    (document({**AIM, "T_cam_world": EYE4}), "expected either T_cam_world or eye"),
    (
        document({"T_cam_world": EYE4}, relative_to="head"),
        "unknown field 'T_cam_world'; did you mean T_cam_head?",
    ),
    (
        document({"T_cam_world": EYE4[:3]}),
        r"frames\[0\]: T_cam_world: expected 4x4 numbers, got 3x4",
    ),
    (
        document({"T_cam_world": [[1, 0], [0]]}),
        "T_cam_world: expected 4x4 numbers in rows of one length",
    ),
    (document({"T_cam_world": "eye"}), "T_cam_world: expected 4x4 numbers, got something else"),
    (
        document({"T_cam_world": _with(TURN, 0, 0, None)}),
        "T_cam_world: expected 4x4 numbers, got something else",
    ),
    (
        document(AIM, {"T_cam_world": _with(TURN, 1, 2, float("nan"))}),
        "cannot be read as the camera path .JSON",
    ),
    (
        document({"T_cam_world": _with(TURN, 0, 0, 2.0)}),
        "T_cam_world: its upper left 3x3 is not a rotation",
    ),
    (document({"T_cam_world": _with(torch.eye(4), 0, 0, -1.0)}), "mirrors"),
    (document({"T_cam_world": _with(TURN, 3, 0, 0.5)}), "its last row is not 0 0 0 1"),
    (document({**AIM, "K": [[1, 0, 0], [0, 1, 0]]}), "K: expected 3x3 numbers, got 2x3"),
    (document({**AIM, "K": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]}), "K: expected fx 0 cx"),
    (document({**AIM, "K": [[1, 2, 0], [0, 1, 0], [0, 0, 1]]}), "K: expected fx 0 cx"),
    (
        document({**AIM, "fov_degrees": 180}),
        "fov_degrees: expected a number above 0 and at most 170",
    ),
    (document({**AIM, "fov_degrees": 30, "K": EYE4}), "expected either K or fov_degrees"),
    (document({"eye": [0, 0, 1]}), r"frames\[0\]: target: missing"),
    (document({**AIM, "eye": [0, 0]}), "eye: expected 3 numbers, got 2"),
    (document({**AIM, "target": [0, 0, 1]}), "target: is where eye is"),
    (document({**AIM, "up": [0, 0, 2]}), "up: expected a direction"),
    (document({"T_cam_world": EYE4, "up": [0, 1, 0]}), "up: belongs to eye and target"),
    (document({**AIM, "time_s": 0}), "unknown field 'time_s'"),
]


@pytest.mark.parametrize("content, words", WRONG)
def test_mistakes_are_named(load, tmp_path, content, words):
    with pytest.raises(UserError, match=words) as error:
        load(content)
    assert str(tmp_path / "path.json") in str(error.value)


@pytest.mark.parametrize("times", [[1, 2], [0, 0], [0, None], [0, "1"], [0, 1e9]])
def test_times_must_rise_from_zero(load, times):
    content = document(keyframes=[{**AIM, "time_s": t} for t in times])
    del content["frames"]
    with pytest.raises(UserError, match=r"keyframes\[\d\]: time_s: "):
        load(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="none.json: not found; expected the camera path"):
        load_camera_path(tmp_path / "none.json", RECORDED)


def test_a_path_of_millions_of_pictures_is_refused_before_it_is_made(load):
    content = document(keyframes=[{**AIM, "time_s": 0}, {**AIM, "time_s": 3600}], fps=1000)
    del content["frames"]
    with pytest.raises(UserError, match="3600000 images; a path has at most 100000"):
        load(content)
