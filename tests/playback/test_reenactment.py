"""The reenactment metrics on made motion, the embedding against its own sums, and both through a
whole run."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from likeness.playback.drivers import Recording
from likeness.playback.transfer import reenactment
from likeness.playback.transfer.identity import SIDE, TEMPLATE, IdentityModel, aligned
from likeness.scene.errors import UserError
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from tests import toys
from tests.onnx_files import write_embedding


def poses_of(angles: torch.Tensor) -> torch.Tensor:
    """Poses [T, 4, 4] of a head that turns aside by angles [T] from where it faces the camera."""
    turns = torch.stack([torch.zeros(len(angles)), angles, torch.zeros(len(angles))], -1)
    return toys.head_pose() @ make_transform(
        rotvecs_to_matrices(turns), torch.zeros(len(angles), 3)
    )


def test_the_papers_distances_are_frame_by_frame():
    a = torch.rand(20, 52, generator=torch.Generator().manual_seed(0))
    aed, l2 = reenactment.expression_distances(a, a + 0.1)  # what differs always counts, too
    assert aed == pytest.approx(0.1) and l2 == pytest.approx(0.1 * 52**0.5)
    angles = torch.linspace(-0.3, 0.3, 21)
    apd, l2 = reenactment.pose_distances(poses_of(angles), poses_of(angles + 0.06))
    assert apd == pytest.approx(0.06 / 3, rel=1e-3) and l2 == pytest.approx(0.06, rel=1e-3)
    found = reenactment.pose_angle(poses_of(angles), poses_of(angles + 0.06))
    assert found == pytest.approx(np.rad2deg(0.06), rel=1e-3)


def test_motion_is_what_is_left_without_the_mean():
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(-0.3, 0.3, 21)
    poses = poses_of(angles)
    elsewhere = toys.head_pose(0.4) @ poses
    assert reenactment.pose_angle(*map(reenactment.motion_of, (poses, elsewhere))) == pytest.approx(
        0, abs=5e-2
    )
    assert reenactment.pose_angle(poses, elsewhere) > 20
    half = reenactment.pose_angle(*map(reenactment.motion_of, (poses, poses_of(angles / 2))))
    assert half == pytest.approx(float(torch.rad2deg(angles.abs() / 2).mean()), rel=0.01)
    points = torch.rand(20, 478, 2, generator=generator) * 10
    points[:, 33], points[:, 263] = torch.tensor([0.0, 0.0]), torch.tensor([50.0, 0.0])
    assert reenactment.landmark_distance(points, 3 * points + 7) == pytest.approx(0, abs=1e-4)
    moved = points.clone()
    moved[::2, :, 1] += 1.0  # half a pixel of 50 from the mean, either way
    moved[:, [33, 263]] = points[:, [33, 263]]
    assert reenactment.landmark_distance(points, moved) == pytest.approx(1.0, rel=0.02)


def test_figures_have_both_variants():
    """An avatar with one coefficient always 0.52 too high and landmarks 5 pixels aside: distances,
    but no motion."""
    states, _ = toys.performance(20)
    offset = torch.zeros_like(states.expression)
    offset[:, 0] = 0.52
    shown = dataclasses.replace(states, expression=states.expression + offset)
    driver, avatar = clip_like(states, None), clip_like(shown, None)
    avatar = dataclasses.replace(avatar, landmarks=driver.landmarks + torch.tensor([3.0, 4.0]))
    found = reenactment._figures(driver, states, avatar, driver, "me", pixels=2.0)
    assert found["papers"]["aed"] == pytest.approx(0.01) and found["papers"][
        "aed_l2"
    ] == pytest.approx(0.52)
    assert (
        found["papers"]["akd_pixels"] == pytest.approx(10.0)
        and found["papers"]["apd_l2_radians"] == 0
    )
    assert found["motion"]["aed"] == pytest.approx(0, abs=1e-6)
    assert found["motion"]["akd_percent"] == pytest.approx(0, abs=1e-4)
    assert (
        reenactment._figures(driver, states, avatar, driver, "other")["papers"]["akd_pixels"]
        is None
    )


def face(scale: float = 2.0, shift: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """A random picture and landmarks whose five points lie as the template's, scaled and
    shifted."""
    image = np.random.default_rng(1).integers(0, 255, (320, 320, 3), np.uint8)
    image = image.repeat(1, 0)
    marks = np.zeros((478, 2), np.float32)
    for group, point in zip(((33, 133), (362, 263), (4,), (61,), (291,)), TEMPLATE):
        marks[list(group)] = point * scale + shift
    return image, marks


def test_embeddings_are_the_networks(tmp_path):
    kernel = write_embedding(tmp_path / "face.onnx")
    image, marks = face()
    found = IdentityModel(tmp_path / "face.onnx")(image, marks)
    picture = (aligned(image, marks).astype(np.float64) - 127.5) / 127.5
    blocks = picture.reshape(4, 28, 4, 28, 3)
    expected = np.einsum("aibjc,kcij->kab", blocks, kernel).ravel()
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
    assert aligned(image, marks).shape == (SIDE, SIDE, 3)


def test_bad_networks_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file; expected a network for face identity"):
        IdentityModel(tmp_path / "absent.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"\x80\x04junk")
    with pytest.raises(UserError, match="OpenCV cannot run it"):
        IdentityModel(tmp_path / "junk.onnx")


def clip_like(states, identity, found=None):
    """What ``see`` gives, without looking: the states themselves, landmarks that follow the jaw."""
    count = len(states)
    marks = torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * 100
    marks[33], marks[263] = torch.tensor([20.0, 50.0]), torch.tensor([80.0, 50.0])
    moved = marks + states.expression[:, :1, None] * torch.tensor([0.0, 5.0])
    embeddings = None if identity is None else np.tile(np.eye(16)[0], (count, 1))
    found = torch.ones(count, dtype=torch.bool) if found is None else found
    return reenactment.Clip(found, moved, states, embeddings)


def test_a_run_is_measured(tmp_path, monkeypatch):
    bundle = toys.arkit_bundle(24)
    toys.make_capture(tmp_path / "capture", frames=30, size=24, test=12)
    states, times = toys.performance(30)
    driver = Recording(
        "friend", states, times, 25.0, lambda i: np.full((24, 24, 3), 128, np.uint8), torch.eye(3)
    )
    calls = []

    def see(images, K, moments, bundle, identity=None, progress=None, total=None):
        count = len(list(images))
        calls.append((count, len(moments)))
        found = torch.arange(count) % 5 > 0 if len(calls) == 4 else None
        return clip_like(states[:count], identity, found)

    monkeypatch.setattr(reenactment, "see", see)
    model = SimpleNamespace()
    figures = reenactment.measure(tmp_path, bundle, driver, identity=model)
    assert calls == [(12, 12), (12, 12), (30, 30), (30, 30)]
    assert figures["self"]["csim"] == pytest.approx(1)
    assert figures["self"]["papers"]["aed"] == pytest.approx(0, abs=1e-6)
    assert (
        figures["self"]["papers"]["akd_pixels"] is not None
        and figures["driven"]["papers"]["akd_pixels"] is None
    )
    assert figures["driven"]["frames"] == 24 and figures["driven"]["frames_without_face"] == 6
    json.dumps(figures, allow_nan=False)

    calls.clear()
    plain = Recording("curves", states, times, 25.0)
    figures = reenactment.measure(tmp_path, bundle, plain)
    assert (
        len(calls) == 3
        and figures["driven"]["motion"]["akd_percent"] is None
        and figures["self"]["csim"] is None
    )
    text = reenactment.table(figures)
    assert (
        "CSIM: not measured: no network for face identity" in text
        and "AKD: not measured: the driver has no" in text
    )
    assert (
        "as the papers, frame by frame" in text
        and len({len(line) for line in text.splitlines()[1:4]}) == 1
    )
    assert "driven by curves" in text and "self, held-out frames" in text


def test_pictures_without_faces_are_an_error():
    blank = [np.zeros((64, 64, 3), np.uint8)] * 10
    with pytest.raises(UserError, match="found in only 0 of 10 images"):
        reenactment.see(blank, torch.eye(3), torch.arange(10) / 25, toys.arkit_bundle())
