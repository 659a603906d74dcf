"""Two frames, sway and pose correction."""

from __future__ import annotations

import dataclasses

import torch

from likeness.fitting.avatars.anchoring import Anchoring, AnchoringConfig
from likeness.ops import harmonics
from likeness.ops.deform import lattice_offsets
from likeness.scene.transforms import invert_transform, transform_points
from tests import toys

TWO = AnchoringConfig(two_frames=True)


def in_world(cloud, state):
    return transform_points(state.T_world_head, cloud.means)


def test_body_gaussians_stand_still_while_the_head_turns():
    anchoring, cloud = Anchoring(TWO, 52), toys.blob(20)
    weights = torch.zeros(20)
    a, b = toys.random_states((), seed=1), toys.random_states((), seed=2)
    torch.testing.assert_close(
        in_world(anchoring(cloud, a, weights), a), in_world(anchoring(cloud, b, weights), b)
    )


def test_sway_moves_what_it_is_switched_on_for():
    cloud, state = toys.blob(20), toys.random_states((), seed=1)
    moved = Anchoring(AnchoringConfig(swaying=True), 52)(cloud, state, None)
    expected = cloud.means + lattice_offsets(cloud.means, state.secondary_motion)
    torch.testing.assert_close(moved.means, expected)
    assert not moved.means.equal(cloud.means)
    assert Anchoring(AnchoringConfig(), 52)(cloud, state, None).means.equal(cloud.means)


def test_head_gaussians_follow_the_head():
    anchoring, cloud = Anchoring(TWO, 52), toys.blob(20)
    moved = anchoring(cloud, toys.random_states((), seed=1), torch.ones(20))
    torch.testing.assert_close(moved.means, cloud.means, atol=1e-6, rtol=0)


def test_body_gaussians_look_the_same_from_the_same_place_in_the_world():
    cloud = toys.blob(20)
    generator = torch.Generator().manual_seed(0)
    cloud = dataclasses.replace(cloud, sh=torch.randn(20, 16, 3, generator=generator) * 0.1)
    state = toys.random_states((), seed=1)
    moved = Anchoring(TWO, 52)(cloud, state, torch.zeros(20))
    eye_world = torch.tensor([0.1, 0.05, 0.0])

    def colours(shown, T_world_frame):
        eye = transform_points(invert_transform(T_world_frame), eye_world[None])
        return harmonics.evaluate(
            shown.sh, torch.nn.functional.normalize(shown.means - eye, dim=-1)
        )

    torch.testing.assert_close(
        colours(moved, state.T_world_head), colours(cloud, state.T_world_body), atol=1e-5, rtol=1e-5
    )


def test_at_rest_nothing_moves():
    state = toys.random_states(())
    state = dataclasses.replace(state, T_world_head=state.T_world_body)
    cloud = toys.blob(20)
    moved = Anchoring(TWO, 52)(cloud, state, torch.randn(20))
    torch.testing.assert_close(moved.means, cloud.means, atol=1e-6, rtol=0)


def test_pose_correction_starts_at_nothing_and_stays_bounded():
    anchoring = Anchoring(AnchoringConfig(pose_correction=True), 52)
    states = toys.random_states((30,))
    anchoring.observe(states.expression, states.T_head_body)
    torch.testing.assert_close(anchoring.pose_delta(states), torch.eye(4).expand(30, 4, 4))
    with torch.no_grad():
        anchoring.correction.fill_(100.0)
    wild = states.map(torch.clone)
    wild.expression.fill_(1e3)
    delta = anchoring.pose_delta(wild)
    assert torch.isfinite(delta).all()
    assert delta[:, :3, 3].abs().max() <= 0.0201  # two centimetres at most


def test_pose_correction_works_with_fewer_frames_than_components():
    anchoring = Anchoring(AnchoringConfig(pose_correction=True), 52)
    states = toys.random_states((3,))
    anchoring.observe(states.expression, states.T_head_body)
    assert torch.isfinite(anchoring.pose_delta(states)).all()
