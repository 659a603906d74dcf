"""What no frame showed of the mouth's inside has the colours that suit the person, at the end."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.config import FitConfig
from likeness.fitting.inside import Inside
from likeness.head_models import shaped_head
from likeness.ops.harmonics import C0
from likeness.scene.frame_images import FrameStore
from tests.fitting.synthetic_run import make_capture
from tests.fitting.test_occlusion import with_landmarks_of_the_mesh


@pytest.mark.parametrize("kind", ["headgas", "rigged", "linear"])
def test_hidden_parts_get_their_colours_back(tmp_path, kind):
    """A fit has moved all colours; frames show a part of the lower teeth alone."""
    capture = with_landmarks_of_the_mesh(make_capture(tmp_path, num_frames=12))
    head, frames = shaped_head(capture), FrameStore(capture, capture.train)
    config = FitConfig(avatar=kind, initializer="mesh")
    anchoring = dataclasses.replace(config.avatar_config().anchoring, rigged=True)
    section = {"anchoring": anchoring} | ({"base_appearance": True} if kind == "headgas" else {})
    own = dataclasses.replace(config.avatar_config(), **section)
    config = dataclasses.replace(config, **{kind: own})
    avatar = loop.create_avatar(config, capture, frames, 0)
    inside = Inside(capture, frames, "cpu")
    members = inside.members(avatar).index
    start = _looks(avatar, capture)[members]
    with torch.no_grad():  # as a fit does with all
        avatar.base_colours()[:] += 0.3 / C0
        avatar.base_opacities()[:] -= 4.0
    inside.complete(avatar)
    end = _looks(avatar, capture)[members]
    shown = torch.zeros(len(members))
    for frame in capture.train:
        state, camera = capture.states[frame], capture.cameras[frame]
        cloud = avatar(state, camera.in_frame(state.T_world_head).center)
        shown += inside.learns(cloud, avatar, (frame,))
    teeth = head.model.part_names.index("teeth_upper")
    upper = head.model.vertex_part[avatar.rig.vertices[members, 0]] == teeth
    never = (shown == 0) & upper
    assert never.sum() > 20
    assert (end[never, 3] > 0.9).all()
    change = (end - start)[:, :3]
    believed = change[shown >= 6].mean()
    assert 0.1 < believed <= 0.31  # mostly what frames said
    assert change[never].abs().mean() < 0.5 * believed


def _looks(avatar, capture) -> torch.Tensor:
    """Colours and opacities [N, 4] of a state of the capture."""
    with torch.no_grad():
        cloud = avatar(capture.states[0], torch.tensor([0.0, 0.0, 1.0]))
    return torch.cat([cloud.sh[:, 0] * C0 + 0.5, cloud.opacities[:, None]], -1)
