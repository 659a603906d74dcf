"""What measures novel views on the synthetic subject: the truth itself is perfect, and a wrong
angle costs."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from likeness.playback.demo_truth import YAWS_DEGREES, psnr_by_yaw
from likeness.playback.views.trajectories import Angle, in_world, turned


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    from likeness.synthetic.truth import make_demo

    return make_demo(tmp_path_factory.mktemp("demo"), frames=6, size=96, texture_size=128)


def test_novel_views_are_measured_up_to_thirty_degrees(truth, tmp_path):
    frames = [SimpleNamespace(state=truth.states[i], time_s=i / truth.config.fps) for i in range(6)]
    capture = SimpleNamespace(frames=frames, test=(4, 5))

    def shown(state, camera):
        rgb, alpha = truth.render_truth(state, camera)
        return torch.from_numpy(rgb + 1 - alpha)

    def off_by_two_degrees(state, camera):
        rest = truth.states.T_world_body[0]
        return shown(state, in_world(turned(camera.in_frame(rest), Angle(2.0)), rest))

    found = psnr_by_yaw(truth, capture, {"true": shown, "off": off_by_two_degrees}, tmp_path)
    assert {-30, 30, -20, 20, 0} == set(YAWS_DEGREES)
    assert set(found["true"]) == {"-30", "-20", "+0", "+20", "+30"}
    assert all(math.isinf(value) for value in found["true"].values())
    assert all(10 < value < 30 for value in found["off"].values()), found["off"]
    assert len(list(tmp_path.glob("yaw_*.png"))) == 5


def test_the_real_comparison_gives_both_ways(truth, monkeypatch):
    from likeness.playback import demo_truth
    from tests import toys
    from tests.contract.test_avatars import make

    monkeypatch.setattr(demo_truth, "errors", lambda *_: {})
    joints = len(truth.model.joint_names)
    states = dataclasses.replace(truth.states[5:6], joints=truth.states.joints[5:6, :2])
    capture = SimpleNamespace(
        frames=[SimpleNamespace(state=states[0], time_s=5 / truth.config.fps)], test=(0,)
    )
    assert joints >= 2
    views = demo_truth.compare_with_truth(toys.bundle(make("headgas")), capture, truth.folder)[
        "demo"
    ]["novel_views"]
    assert set(views) == {"psnr_by_yaw_degrees", "psnr_by_yaw_degrees_held"}
    assert all(set(by_yaw) == {"-30", "-20", "+0", "+20", "+30"} for by_yaw in views.values())
