"""Normals of a sphere, backgrounds, sheets of pictures, and the choice of states."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from likeness.playback.chosen_states import (
    one_frame,
    parse_expression,
    rate_of,
    sequence,
    with_expression,
)
from likeness.playback.state_file import save_states
from likeness.playback.views.backgrounds import Background, cover, straight
from likeness.playback.views.geometry import normal_image, normals_of, points_of
from likeness.playback.views.sheets import labelled, sheet
from likeness.renderers import create
from likeness.renderers.output import RenderOutput
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.transforms import matrices_to_quats
from tests import toys
from tests.contract.test_avatars import make

RADIUS, DISTANCE = 0.1, 0.9


def sphere(count: int = 6000) -> GaussianCloud:
    """Flat opaque discs that tile a sphere evenly (Fibonacci's lattice), 0.9 m before the
    camera."""
    index = torch.arange(count) + 0.5
    y, angle = 1 - 2 * index / count, math.pi * (1 + 5**0.5) * index
    ring = (1 - y * y).sqrt()
    normal = torch.stack([ring * angle.cos(), y, ring * angle.sin()], -1)
    side = torch.nn.functional.normalize(
        torch.linalg.cross(normal, normal.new_tensor([[0.3, 0.5, 0.8]])), dim=-1
    )
    axes = torch.stack([side, torch.linalg.cross(normal, side), normal], -1)
    scales = torch.tensor([0.003, 0.003, 0.0002]).expand(count, 3)
    return GaussianCloud(
        normal * RADIUS + torch.tensor([0.0, 0.0, DISTANCE]),
        matrices_to_quats(axes),
        scales,
        torch.full((count,), 0.98),
        torch.zeros(count, 1, 3),
    )


def test_normals_of_a_sphere_of_gaussians():
    camera = toys.camera(96)
    output = create("cpu", "cpu").render(sphere(), camera, depth=True)
    normals = normals_of(output.depth[..., 0], output.alpha[..., 0], camera)
    points = points_of(output.depth[..., 0], camera) - torch.tensor([0.0, 0.0, DISTANCE])
    middle = (points[..., :2].norm(dim=-1) < 0.75 * RADIUS) & (output.alpha[..., 0] > 0.9)
    assert middle.sum() > 800
    expected = torch.nn.functional.normalize(points, dim=-1)
    angles = torch.rad2deg(torch.acos((normals * expected).sum(-1)[middle].clamp(-1, 1)))
    assert angles.median() < 4 and angles.quantile(0.95) < 12, angles.quantile(
        torch.tensor([0.5, 0.95])
    )
    torch.testing.assert_close(normals.norm(dim=-1)[middle], torch.ones(int(middle.sum())))
    assert (normals[output.alpha[..., 0] < 0.5] == 0).all()


def test_normals_of_an_exact_plane_and_edges():
    """A plane that leans: the same normal everywhere, up to the border and beside a step in
    depth."""
    camera = toys.camera(32)
    rays = points_of(torch.ones(32, 32), camera)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    depth = float(normal[2]) * DISTANCE / (rays @ normal)
    depth[:, 16:] += 0.3  # another plane, parallel, behind
    normals = normals_of(depth, torch.ones(32, 32), camera)
    torch.testing.assert_close(normals[:, :16], normal.expand(32, 16, 3), atol=2e-3, rtol=0)
    picture = normal_image(
        torch.tensor([[[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]])
    )
    assert picture[0].tolist() == [
        [128, 128, 255],
        [255, 128, 128],
        [128, 255, 128],
        [255, 255, 255],
    ]


def _output() -> RenderOutput:
    alpha = torch.tensor([0.0, 0.5, 1.0])[None, :, None]
    return RenderOutput(alpha * torch.tensor([1.0, 0.5, 0.0]), alpha)


def test_colours_and_pictures_stand_behind(tmp_path):
    assert Background("#336699").under(_output())[0].tolist() == [
        [51, 102, 153],
        [153, 115, 76],
        [255, 128, 0],
    ]
    assert Background("Black").under(_output())[0, 0].tolist() == [0, 0, 0]
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 15:25] = (10, 20, 30)
    cv2.imwrite(str(tmp_path / "wall.png"), picture[..., ::-1])
    shown = Background(str(tmp_path / "wall.png")).tensor(20, 20) * 255
    # its middle, scaled
    assert shown.shape == (20, 20, 3) and shown[10, 10].round().tolist() == [10, 20, 30]
    assert cover(picture, 20, 20).shape == (20, 20, 3)


def test_transparent_pictures_are_straight():
    assert straight(_output())[0].tolist() == [[0, 0, 0, 0], [255, 128, 0, 128], [255, 128, 0, 255]]
    assert Background("transparent").under(_output()).shape == (1, 3, 4)


def test_other_backgrounds(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    for text, words in (
        ("blu", "did you mean blue"),
        ("#12345", "expected #rrggbb"),
        (str(tmp_path / "no.png"), "not found"),
        (str(tmp_path / "bad.png"), "cannot be read as an image"),
    ):
        with pytest.raises(UserError, match=words):
            Background(text)


def test_sheets():
    red, tall = np.full((4, 6, 3), (255, 0, 0), np.uint8), np.zeros((8, 2, 3), np.uint8)
    whole = sheet([[red, tall], [red]], gap=1)
    assert whole.shape == (13, 9, 3)
    assert (
        (whole[2:6, :6] == (255, 0, 0)).all()
        and (whole[0:2, :6] == 255).all()
        and (whole[:8, 7:] == 0).all()
    )
    assert (whole[9:, :6] == (255, 0, 0)).all() and (whole[9:, 6:] == 255).all()
    mixed = sheet([[red, np.zeros((4, 4, 4))]])
    assert (
        mixed.shape == (4, 10, 4) and (mixed[:, :6, 3] == 255).all() and (mixed[:, 6:] == 0).all()
    )
    text = labelled(np.full((128, 128, 3), 128, np.uint8), "yaw +30")
    assert text.min() < 40 and text.max() > 215 and (text[64:] == 128).all()
    with pytest.raises(ValueError, match="a label"):
        sheet([[red, red]], [["one"]])


@pytest.fixture(scope="module")
def bundle():
    return toys.bundle(make("headgas"))


def test_states_of_the_recording(bundle):
    chosen = one_frame(bundle, 3)
    torch.testing.assert_close(chosen.states.expression[0], bundle.recording.expression[3])
    assert not chosen.moving and (one_frame(bundle, None).states.expression == 0).all()
    part = sequence(bundle, "recording", 0.1, 0.3)
    assert part.moving and part.fps == pytest.approx(25)
    torch.testing.assert_close(part.states.expression, bundle.recording.expression[3:8])
    for frame in (-1, 12):
        with pytest.raises(UserError, match="frames 0 to 11"):
            one_frame(bundle, frame)
    with pytest.raises(UserError, match="no frame lies between"):
        sequence(bundle, "recording", 5.0, None)
    assert rate_of(torch.tensor([0.0, 0.04, 0.2, 0.24])) == pytest.approx(25)


def test_states_of_a_file(bundle, tmp_path):
    states = toys.random_states((6,), seed=5)
    save_states(tmp_path / "s.npz", states, 10.0, bundle.expression_names, bundle.joint_names)
    chosen = sequence(bundle, str(tmp_path / "s.npz"), 0.2, None)
    assert chosen.fps == 10 and len(chosen.states) == 4
    torch.testing.assert_close(chosen.states.expression, states.expression[2:])


def test_named_expressions(bundle):
    names = ("jawOpen", "mouthSmileLeft", "browInnerUp")
    assert parse_expression("jawOpen=0.7, mouthSmileLeft=1", names) == {
        "jawOpen": 0.7,
        "mouthSmileLeft": 1.0,
    }
    for text, words in (
        ("jawOpne=1", "no expression 'jawOpne'; did you mean jawOpen?"),
        ("jawOpen", "expected NAME=VALUE"),
        ("jawOpen=wide", "jawOpen: expected a number, got 'wide'"),
        ("jawOpen=nan", "expected a number"),
        ("jawOpen=1,jawOpen=2", "given twice"),
        ("", "expected NAME=VALUE"),
        ("xyzzy=1", "known: jawOpen, mouth"),
    ):
        with pytest.raises(UserError, match=words):
            parse_expression(text, names)
    held = with_expression(
        sequence(bundle, "recording", None, None), {"e5": 0.25}, bundle.expression_names
    )
    assert (held.states.expression[:, 5] == 0.25).all()
    torch.testing.assert_close(held.states.expression[:, 6], bundle.recording.expression[:, 6])
