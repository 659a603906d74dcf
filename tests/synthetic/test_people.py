"""Captures of synthetic subjects."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.synthetic.glasses import Glasses
from likeness.synthetic.moments import (
    random_camera,
    random_expression,
    random_person,
    random_states,
)
from likeness.synthetic.people import PeopleConfig, make_people
from likeness.synthetic.subject import SyntheticSubject

SMALL = PeopleConfig(frames=3, size=64, texture_size=128)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    return root, make_people(root, [7, 8], SMALL)


def test_they_are_captures_whose_truth_fits_their_pictures(made):
    for folder in made[1]:
        capture = Capture.load(folder)
        assert len(capture.train) == 3 and capture.test == ()
        frames = FrameStore(capture, capture.train)
        for index, frame in enumerate(capture.frames):
            _, matte = frames.get(index)
            column, row = frame.landmarks.round().long().unbind(-1)
            inside = (column.clamp(0, 63) == column) & (row.clamp(0, 63) == row)
            # Landmarks that the image shows lie on the person.
            assert (
                inside.float().mean() > 0.7 and matte[row[inside], column[inside], 0].mean() > 0.9
            )


def test_people_that_are_there_are_kept(made):
    root, folders = made
    before = [folder.stat().st_mtime_ns for folder in folders]
    assert make_people(root, [7, 8], SMALL) == folders
    assert [folder.stat().st_mtime_ns for folder in folders] == before


def test_moments_keep_to_what_they_promise():
    model, rng = HEAD_MODELS["anny"](), np.random.default_rng(0)
    camera, distance = random_camera(rng, 64)
    assert 1.4 * 64 <= float(camera.K[0, 0]) <= 3.5 * 64
    states = random_states(model, 40, distance, rng)
    assert states.expression.min() >= 0 and states.expression.max() <= 1
    forward = states.T_world_head[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    assert yaw.abs().max() < 65 and yaw.std() > 12
    assert (
        sum(float(random_expression(model.expression_names, rng).sum()) == 0 for _ in range(60)) > 1
    )
    people = [random_person(model, seed) for seed in range(40)]
    assert 1 <= sum(person.glasses is not None for person in people) <= 15
    assert random_person(model, 3).light == people[3].light


def test_glasses_darken_the_face_and_nothing_far_from_it():
    model = HEAD_MODELS["anny"]()
    camera, distance = random_camera(np.random.default_rng(1), 96)
    state = model.neutral_state()
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = distance
    state = dataclasses.replace(state, T_world_head=pose, T_world_body=pose)
    person = dataclasses.replace(random_person(model, 5), glasses=None)
    bare, worn = (
        SyntheticSubject(model, dataclasses.replace(person, glasses=glasses), 128).render(
            state, camera
        )[0]
        for glasses in (None, Glasses())
    )
    changed = np.abs(bare - worn).max(-1) > 0.05
    rows, columns = changed.nonzero()
    assert changed.sum() > 20
    assert np.abs(rows - 48).max() < 20 and np.abs(columns - 48).max() < 30
