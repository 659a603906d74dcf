"""The diagnostic finds an error that was put into the tracking, and none where there is none."""

from __future__ import annotations

import dataclasses

import cv2
import pytest
import torch

from likeness.playback.player import Player
from likeness.playback.tracking_gain import summary, tracking_gain
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from tests import toys
from tests.contract.test_avatars import EXTENDED, make


@pytest.fixture
def made(tmp_path):
    """A bundle, and a capture whose pictures are the avatar's own."""
    avatar = make("headgas", EXTENDED)
    with torch.no_grad():
        avatar.per_gaussian["log_scales"].fill_(-4.0)
        for name in ("base_opacities",):
            if name in avatar.per_gaussian:
                avatar.per_gaussian[name].fill_(2.0)
    capture = toys.make_capture(tmp_path, frames=5)
    bundle = toys.bundle(avatar, 48)
    player, white = Player(bundle), torch.ones(3)
    for frame in capture.frames:
        picture = player.step(frame.state, frame.camera, white).rgb.clamp(0, 1)
        cv2.imwrite(str(frame.image_path), (picture.flip(-1).numpy() * 255).round())
        cv2.imwrite(str(frame.matte_path), torch.full(picture.shape[:2], 255).numpy())
    return bundle, capture


def test_nothing_to_gain_where_the_tracking_is_right(made):
    bundle, capture = made
    (gain,) = tracking_gain(bundle, capture, [2], steps=3)
    assert gain.tracked > 45 and gain.poses - gain.tracked < 3
    assert all(
        parameter.requires_grad == (not name.endswith(("rig_vertices", "rig_weights")))
        for name, parameter in bundle.avatar.named_parameters()
    )


def test_a_wrong_pose_is_found_again(made):
    bundle, capture = made
    wrong = make_transform(
        rotvecs_to_matrices(torch.tensor([0.03, -0.05, 0.02])), torch.tensor([0.003, 0.0, 0.0])
    )
    poses = capture.states.T_world_head.clone()
    poses[2] = poses[2] @ wrong
    capture = capture.with_states(dataclasses.replace(capture.states, T_world_head=poses))
    gains = tracking_gain(bundle, capture, [2], steps=40)
    found = summary(gains)
    assert found["poses"] > 4 and found["poses_and_expressions"] >= found["poses"]
    assert found["per_frame"][0]["index"] == 2 and found["tracked"] == pytest.approx(
        gains[0].tracked
    )
