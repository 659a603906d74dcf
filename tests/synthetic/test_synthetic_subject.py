"""The demo subject: reproducible, readable as a video, consistent with its truth, and a face to
FaceMesh."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.regions import regions_of
from likeness.scene.capture import Capture, TrackedFrame, TrackedFrames
from likeness.scene.errors import UserError
from likeness.scene.transforms import make_transform, rotvecs_to_matrices, transform_points
from likeness.synthetic.appearance import Look
from likeness.synthetic.errors import errors
from likeness.synthetic.motion import make_motion
from likeness.synthetic.paint import paint_texture
from likeness.synthetic.subject import SyntheticPerson
from likeness.synthetic.truth import DemoTruth, make_demo

SMALL = {"frames": 3, "size": 288, "seed": 3, "texture_size": 512}


@pytest.fixture(scope="module")
def model():
    return HEAD_MODELS["anny"]()


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> DemoTruth:
    return make_demo(tmp_path_factory.mktemp("demo"), **SMALL)


def read_video(path: Path) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(str(path)), []
    while (result := video.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def test_the_same_settings_give_the_same_demo(truth, tmp_path):
    again = make_demo(tmp_path, **SMALL)
    for name in ("truth.safetensors", "truth.json", "mattes/000001.png"):
        assert (truth.folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    for a, b in zip(read_video(truth.video), read_video(again.video), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_demo_is_not_made_twice(truth):
    made = []
    before = truth.video.stat().st_mtime_ns
    again = make_demo(truth.folder, **SMALL, progress=lambda done, total: made.append(done))
    assert not made and truth.video.stat().st_mtime_ns == before
    torch.testing.assert_close(again.states.T_world_head, truth.states.T_world_head, rtol=0, atol=0)


def test_an_interrupted_demo_is_made_anew(truth, tmp_path, monkeypatch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    subject = truth.subject
    monkeypatch.setattr("likeness.synthetic.truth._subject", lambda model, config: subject)
    settings = SMALL | {"frames": 1, "size": 96}
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path, **settings, progress=stop)
    assert not (tmp_path / "demo.mp4").exists()
    with pytest.raises(UserError, match="unfinished"):
        DemoTruth.load(tmp_path)
    assert len(read_video(make_demo(tmp_path, **settings).video)) == 1


def test_foreign_files_and_damage_are_user_errors(truth, tmp_path):
    (tmp_path / "demo.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"demo\.mp4 without its truth"):
        make_demo(tmp_path, **SMALL)
    assert (tmp_path / "demo.mp4").read_bytes() == b"mine"
    with pytest.raises(UserError, match="truth of a demo video"):
        DemoTruth.load(tmp_path)
    (tmp_path / "truth.json").write_bytes((truth.folder / "truth.json").read_bytes())
    (tmp_path / "truth.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="it is damaged: delete its folder"):
        DemoTruth.load(tmp_path)


def test_video_is_the_truth_over_the_wall(truth):
    frames = read_video(truth.video)
    assert len(frames) == 3 and frames[0].shape == (288, 288, 3)
    rgb, alpha = truth.render_truth(1)
    expected = 255 * (rgb + (1 - alpha) * truth.subject.wall(288, 288))
    assert np.abs(frames[1] - expected).mean() < 3.0  # noise and compression
    np.testing.assert_allclose(truth.matte(1) / 255, alpha[..., 0], atol=0.5 / 255 + 1e-6)


def test_mattes_are_sane(truth):
    alpha = truth.matte(0) / 255
    assert (
        alpha[:30].max() == 0
        and alpha[-1, 120:170].min() == 1
        and alpha[110:200, 125:165].min() == 1
    )
    soft = ((alpha > 0) & (alpha < 1)).mean()
    assert 0.005 < soft < 0.1  # hair and an antialiased outline, no veil
    rgb, coverage = truth.render_truth(0)
    assert (rgb <= coverage + 1e-6).all() and rgb.min() >= 0


@pytest.mark.parametrize("turn", [0.0, np.radians(20)])
def test_landmarks_of_the_truth_agree_with_the_picture(truth, turn):
    """FaceMesh sits on the painted face, from the video's camera and from a novel view."""
    from likeness.preprocess.landmarks import FaceMeshDetector

    camera = truth.orbit(turn, size=400)
    state = truth.states[2]
    rgb, alpha = truth.render_truth(state, camera)
    picture = np.round(255 * (rgb + 0.6 * (1 - alpha))).astype(np.uint8)
    with FaceMeshDetector(1) as detector:
        faces = [detector(picture) for _ in range(3)][-1]
    assert len(faces) == 1
    head = truth.model.shaped(truth.identity).posed(state).landmarks()
    projected = camera.project(transform_points(state.T_world_head, head))[0].numpy()
    eyes = np.linalg.norm(projected[33] - projected[263])
    distance = np.linalg.norm(faces[0] - projected, axis=1) / eyes
    # The embedding's own residual is 2.3 mm, 2.5 % of the eyes' distance; a mirrored or shifted
    # face is beyond 10 %.
    assert np.median(distance) < 0.05 and distance.max() < 0.25
    gap = faces[0][14, 1] - faces[0][13, 1], projected[14, 1] - projected[13, 1]
    assert abs(gap[0] - gap[1]) < 0.12 * eyes


def test_seeds_make_different_people(model):
    people = [SyntheticPerson.random(model, seed) for seed in range(6)]
    assert len({person.look for person in people}) == 6
    coefficients = torch.stack([person.identity.coefficients for person in people])
    assert (torch.pdist(coefficients) > 2).all()
    torch.testing.assert_close(
        SyntheticPerson.random(model, 2).identity.coefficients, coefficients[2], rtol=0, atol=0
    )


def test_motion_covers_what_a_tracker_must_follow(model):
    states = make_motion(model, 240, 25.0, 1.1, 0.03, seed=0)
    column = {
        name: states.expression[:, index].numpy()
        for index, name in enumerate(model.expression_names)
    }
    assert states.expression.min() >= 0 and states.expression.max() <= 1
    for name, least in (
        ("eyeBlinkLeft", 0.9),
        ("mouthSmileRight", 0.5),
        ("jawOpen", 0.4),
        ("browInnerUp", 0.4),
    ):
        assert column[name].max() > least and column[name].min() < 0.05, name
    forward = states.T_world_head[:, :3, 2]
    yaw = np.degrees(np.arctan2(forward[:, 0], -forward[:, 2]).numpy())
    assert yaw.max() > 17 and yaw.min() < -17 and np.abs(yaw).max() < 30
    # Smooth: at most 6 degrees and 12 mm from frame to frame; the shoulders stand still.
    assert np.abs(np.diff(yaw)).max() < 6
    assert states.T_world_head[:, :3, 3].diff(dim=0).norm(dim=1).max() < 0.012
    assert (states.T_world_body == states.T_world_body[0]).all()
    other = make_motion(model, 240, 25.0, 1.1, 0.03, seed=1)
    assert (other.expression - states.expression).abs().max() > 0.5


def test_grimaces_are_added_to_the_same_motion(model):
    plain, pulled = (
        make_motion(model, 120, 25.0, 1.1, 0.03, 4, grimaces) for grimaces in (0.0, 1.0)
    )
    assert (plain.T_world_head == pulled.T_world_head).all() and (
        plain.joints == pulled.joints
    ).all()
    assert (pulled.expression >= plain.expression).all() and pulled.expression.max() <= 1
    strongest = pulled.expression.amax(0) - plain.expression.amax(0)
    assert (strongest > 0.3).sum() >= 4


def test_paint_puts_lips_brows_and_eyes_where_they_are(model):
    look = Look(skin=(0.85, 0.66, 0.56), lips=(0.7, 0.3, 0.3), hair=(0.1, 0.07, 0.05))
    texture = paint_texture(model, look, seed=1, size=512)[..., :3].astype(float) ** 2
    corners = model.uvs[model.uv_faces[model.landmark_faces]]
    uv = (corners * model.landmark_barycentrics[..., None]).sum(1).numpy()
    texels = texture[((1 - uv[:, 1]) * 512).astype(int), (uv[:, 0] * 512).astype(int)]
    redness = texels[:, 0] / texels[:, 1]
    cheek, lips, brow = [50, 280, 205, 425], [0, 17, 37, 267, 84, 314], [105, 334, 63, 293, 66, 296]
    assert redness[lips].min() > 1.15 * redness[cheek].max()
    assert np.median(texels[brow].sum(1)) < 0.5 * texels[cheek].sum(1).min()
    assert texels[[468, 473]].sum(1).max() < 0.1 * texels[cheek].sum(1).min()  # pupils
    with pytest.raises(UserError, match="REGIONS"):
        regions_of(dataclasses.replace(model, name="unheard-of"))


def tracked(truth: DemoTruth, states, root: Path) -> Capture:
    frames = TrackedFrames.stack(
        [
            TrackedFrame(
                root / "a",
                root / "b",
                index / 25.0,
                truth.camera,
                states[index],
                torch.zeros(478, 2),
                torch.ones(478),
                0.0,
            )
            for index in range(len(states))
        ]
    )
    names = truth.model.expression_names, truth.model.joint_names
    return Capture(root, "anny", *names, truth.identity, 25.0, frames, (0, 1), (2,), "", {})


def test_errors_name_what_was_put_in(truth, model, tmp_path):
    states = make_motion(model, 40, 25.0, 1.1, 0.03, seed=5)
    truth = dataclasses.replace(truth, states=states)
    perfect = errors(truth, tracked(truth, states, tmp_path))
    assert perfect["rotation_deg"]["median"] < 0.02 and perfect["translation_mm"]["p95"] < 1e-3
    assert perfect["expressions"]["jaw"] == pytest.approx(1) and perfect["alpha_mae"] is None
    # A constant offset between head frames, with depths scaled by a wrong focal length.
    offset = make_transform(
        rotvecs_to_matrices(torch.tensor([0.05, 0.0, 0.0])), torch.tensor([0.0, 0.01, 0.0])
    )
    moved = states.T_world_head @ offset
    moved[:, :3, 3] *= 1.1
    wrong = errors(truth, tracked(truth, dataclasses.replace(states, T_world_head=moved), tmp_path))
    assert wrong["rotation_deg"]["median"] == pytest.approx(np.degrees(0.05), abs=0.02)
    assert wrong["rotation_deg"]["without_offset"]["median"] < 0.02
    assert (
        wrong["translation_mm"]["scale"] == pytest.approx(1.1, abs=1e-3)
        and wrong["translation_mm"]["median"] > 80
    )
    assert wrong["translation_mm"]["without_offset_and_scale"]["p95"] < 0.1
    # Noise that is independent from frame to frame, beside a slow error.
    noise = 0.002 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    turns = rotvecs_to_matrices(noise + torch.linspace(0, 0.05, 40)[:, None])
    noisy = states.T_world_head @ make_transform(turns, torch.zeros(40, 3))
    shaken = errors(
        truth, tracked(truth, dataclasses.replace(states, T_world_head=noisy), tmp_path)
    )
    assert shaken["rotation_deg"]["jitter"] == pytest.approx(np.degrees(0.002 * 3**0.5), rel=0.15)
    assert perfect["rotation_deg"]["jitter"] < 0.02
    # Curves shuffled in time.
    shuffled = dataclasses.replace(states, expression=states.expression.roll(15, 0))
    assert errors(truth, tracked(truth, shuffled, tmp_path))["expressions"]["jaw"] < 0.8
    short = dataclasses.replace(truth, states=states[torch.arange(10)])
    with pytest.raises(UserError, match="not a capture of"):
        errors(short, tracked(truth, states, tmp_path))
