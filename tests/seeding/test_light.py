"""The light of a clip, and what it makes of skin that an expression turns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS, shaped_head
from likeness.ops import harmonics
from likeness.scene.camera import Camera
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from likeness.seeding.light import expression_shades, fitted_light
from likeness.seeding.source_view import SourceView
from likeness.seeding.vertex_colours import vertex_colours
from likeness.synthetic.moments import random_person
from likeness.synthetic.people import write_capture
from likeness.synthetic.subject import SyntheticSubject


def unit(count: int) -> torch.Tensor:
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(directions, dim=-1)


def test_the_light_is_found_beneath_beards_and_shadows():
    normals = unit(2000)
    light = torch.tensor([[1.6], [0.3], [-0.2], [0.1], [0], [0], [0.1], [0], [0.05]]).repeat(1, 3)
    colours = harmonics.basis(normals, 2) @ light
    colours[::6] *= 0.3
    torch.testing.assert_close(fitted_light(normals, colours), light, atol=0.02, rtol=0)


@pytest.fixture(scope="module")
def lit(tmp_path_factory):
    """The capture of a synthetic person with a calm frame, which is the training's, and one of an
    open mouth; and the head."""
    model = HEAD_MODELS["anny"]()
    subject = SyntheticSubject(model, random_person(model, 7_000_000), 256)
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    rest[:3, 3] = torch.tensor([0.0, -0.03, 0.8])
    K = torch.tensor([[400.0, 0, 80], [0, 400, 80], [0, 0, 1]])
    camera = Camera(K, torch.eye(4), 160, 160)
    expression = torch.zeros(2, len(model.expression_names))
    expression[1, model.expression_names.index("jawOpen")] = 0.8
    joints = model.neutral_state().joints.expand(2, -1, -1)
    poses = rest.expand(2, 4, 4).contiguous()
    states = HeadState(expression, joints, poses, poses)
    cameras = Camera.stack([camera, camera])
    folder = tmp_path_factory.mktemp("lit")
    capture = write_capture(folder, subject, states, cameras, "lit")
    capture = dataclasses.replace(capture, train=(0,), test=(1,))
    return capture, shaped_head(capture)


def seen_colours(capture, head, index) -> tuple[np.ndarray, np.ndarray]:
    """Colours [V, 3] of the vertices in a frame, and which are seen well."""
    frames = FrameStore(capture, (0, 1))
    view = SourceView.of(capture.frames[index], frames.get(index), head)
    found = vertex_colours(head, [view])
    return found.rgb, found.weight > 0.1


def test_skin_that_an_expression_turns_changes_as_it_does_in_truth(lit):
    capture, head = lit
    model = head.model
    shades = expression_shades(capture, FrameStore(capture, (0,)), head)
    skin = model.vertex_part == model.part_names.index("skin")
    assert not shades[:, ~skin].any()
    jaw = model.expression_names.index("jawOpen")
    (calm, first), (wide, second) = (seen_colours(capture, head, index) for index in (0, 1))
    predicted = (0.8 * harmonics.C0 * shades[jaw]).mean(-1).numpy()
    chosen = first & second & skin.numpy() & (np.abs(predicted) > 0.02)
    true = (wide - calm).mean(-1)[chosen]
    assert chosen.sum() > 40
    assert np.corrcoef(predicted[chosen], true)[0, 1] > 0.6
    # and the colours are nearer than they were
    error = np.square(true - predicted[chosen]).mean()
    assert error < 0.7 * np.square(true).mean()
