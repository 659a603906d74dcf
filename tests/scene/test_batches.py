"""Nouns of tensors join, select and keep their batches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.scene.capture import Capture, TrackedFrames
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from tests import toys


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("batches"), frames=6, size=16, test=2)


def seeds(count: int, degree: int = 0) -> Seeds:
    cloud = toys.blob(count)
    sh = torch.randn(count, (degree + 1) ** 2, 3)
    rig = RigBinding(
        torch.zeros(2, 5, 3), torch.arange(3 * count).view(-1, 3), torch.rand(count, 3)
    )
    return Seeds(dataclasses.replace(cloud, sh=sh), torch.rand(count), rig)


def test_joined_seeds_are_selected_apart_again():
    parts = [seeds(4), seeds(7)]
    both = Seeds.cat(parts)
    assert both.cloud.num_gaussians == 11 and both.features is None
    mask = torch.arange(11) >= 4
    for index, part in ((slice(4), parts[0]), (mask, parts[1])):
        again = both.select(index)
        assert torch.equal(again.head_weights, part.head_weights)
        assert torch.equal(again.rig.vertices, part.rig.vertices)
        for name, value in part.cloud.fields().items():
            assert torch.equal(again.cloud.fields()[name], value), name


def test_harmonics_of_a_lower_degree_are_padded_with_zeros():
    low, high = seeds(3).cloud, seeds(2, degree=1).cloud
    both = GaussianCloud.cat([low, high])
    assert both.sh.shape == (5, 4, 3)
    assert torch.equal(both.sh[:3, :1], low.sh) and not both.sh[:3, 1:].any()
    assert torch.equal(both.sh[3:], high.sh)


def test_gaussians_of_a_batch_are_selected_in_each_of_its_items():
    clouds = [seeds(5).cloud for _ in range(3)]
    batch = GaussianCloud.stack(clouds)
    some = batch.select(torch.tensor([4, 1]))
    assert some.batch_shape == (3,) and some.num_gaussians == 2
    assert torch.equal(some[2].opacities, clouds[2].opacities[[4, 1]])
    twice = GaussianCloud.cat([batch, batch])
    assert twice.batch_shape == (3,) and torch.equal(twice[1].means[5:], clouds[1].means)


def test_files_call_secondary_motion_sway():
    states = toys.random_states((4,), seed=1)
    stored = states.to_tensors("recording.")
    assert set(stored) == {
        f"recording.{name}"
        for name in ("expression", "joints", "T_world_head", "T_world_body", "sway")
    }
    again = HeadState.from_tensors(stored, "recording.")
    assert torch.equal(again.secondary_motion, states.secondary_motion)
    del stored["recording.sway"]
    assert not HeadState.from_tensors(stored, "recording.").secondary_motion.any()
    joined = HeadState.cat([states[:1], states[1:]])
    assert torch.equal(joined.expression, states.expression)


def test_frames_are_views_of_batches(capture):
    frame = capture.frames[-1]
    assert torch.equal(frame.state.expression, capture.states.expression[-1])
    assert frame.state.expression.data_ptr() == capture.states.expression[-1].data_ptr()
    again = TrackedFrames.stack(list(capture.frames))
    assert again.image_paths == capture.frames.image_paths and len(again) == 6
    assert torch.equal(again.states.T_world_head, capture.states.T_world_head)
    with pytest.raises(IndexError):
        capture.frames[6]
    with pytest.raises(
        ValueError, match=r"TrackedFrames.landmarks: expected shape \[\*b, 6, L, 2\]"
    ):
        dataclasses.replace(capture.frames, landmarks=capture.frames.landmarks[:5])


def test_a_part_of_a_capture_keeps_its_split(capture):
    part = capture.select([1, 3, 5])
    assert part.train == (0, 1) and part.test == (2,)
    assert [f.time_s for f in part.frames] == [capture.frames[i].time_s for i in (1, 3, 5)]


def test_other_states_are_saved_and_read(capture):
    shut = dataclasses.replace(capture.states, expression=0 * capture.states.expression)
    changed = capture.with_states(shut)
    assert capture.states.expression.any()  # the capture itself is as it was
    changed.save()
    again = Capture.load(changed.root)
    assert not again.states.expression.any()
    assert torch.equal(again.frames.times_s, capture.frames.times_s)
    assert again.cameras.width == 16
