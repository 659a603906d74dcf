"""Cameras turn about the head by the angles that they say, and other lenses and sizes show the same
thing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from likeness.playback.views.trajectories import (
    HEAD_CENTRE,
    TRAJECTORIES,
    Angle,
    Swing,
    anchors,
    at_distance,
    fitted,
    grid,
    in_world,
    orbit,
    spiral,
    turned,
    with_fov,
)
from likeness.scene.transforms import transform_points
from tests import toys

CENTRE = torch.tensor([HEAD_CENTRE])
IN_HEAD = toys.camera(64).in_frame(toys.head_pose(0.3))


@pytest.mark.parametrize("yaw, pitch", [(30, 0), (-30, 0), (0, 20), (25, -10)])
def test_turned_cameras_keep_the_head_where_it_is_in_the_picture(yaw, pitch):
    camera = turned(IN_HEAD, Angle(yaw, pitch))
    for before, after in zip(IN_HEAD.project(CENTRE), camera.project(CENTRE)):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_yaw_goes_to_the_subject_s_left_and_pitch_upwards():
    frontal = toys.camera(64).in_frame(toys.head_pose())
    offset = frontal.center - CENTRE[0]
    for angle, axis in ((Angle(30), 0), (Angle(0, 30), 1)):
        moved = turned(frontal, angle).center - CENTRE[0]
        assert float(moved[axis]) > 0.4 * float(offset.norm())
        cosine = float(moved @ offset / offset.norm() / moved.norm())
        # it looks down a little
        assert math.isclose(cosine, math.cos(math.radians(30)), abs_tol=3e-4)


def test_it_agrees_with_the_orbit_of_the_demo_s_truth():
    """The demo turns its camera about a head that faces it: the same camera comes of the same
    angles."""
    from likeness.synthetic.truth import DemoConfig, DemoTruth

    facing = toys.head_pose()[None]
    states = dataclasses.replace(toys.random_states((1,)), T_world_head=facing, T_world_body=facing)
    truth = DemoTruth(None, DemoConfig(size=64), states, None)
    base = truth.camera.in_frame(toys.head_pose())
    for yaw, pitch in ((30, 0), (-20, 10)):
        expected = truth.orbit(math.radians(yaw), math.radians(pitch))
        found = in_world(turned(base, Angle(yaw, pitch)), toys.head_pose())
        torch.testing.assert_close(found.T_cam_world, expected.T_cam_world, atol=1e-5, rtol=0)


def test_orbits_and_spirals_loop_within_their_bounds():
    yaws = [angles[0].yaw for angles in orbit(Swing(100))]
    assert (
        yaws[0] == 0
        and math.isclose(max(yaws), 30, abs_tol=0.1)
        and math.isclose(min(yaws), -30, abs_tol=0.1)
    )
    assert max(abs(b - a) for a, b in zip(yaws, yaws[1:] + yaws[:1])) < 2
    full = [angles[0].yaw for angles in orbit(Swing(36, yaw=180))]
    assert sorted(full) == pytest.approx(list(range(-180, 180, 10)))
    points = [angles[0] for angles in spiral(Swing(200))]
    assert all((p.yaw / 30) ** 2 + (p.pitch / 15) ** 2 <= 1 + 1e-6 for p in points)
    assert max(abs(p.pitch) for p in points) > 13 and abs(points[-1].yaw) < 1
    assert len(orbit(Swing(100, swings=3))) == 100


def test_grids_go_row_by_row_from_the_top():
    (angles,) = grid(Swing(1, yaws=(-10, 10), pitches=(0, 20)))
    assert [(a.yaw, a.pitch) for a in angles] == [(-10, 20), (10, 20), (-10, 0), (10, 0)]
    assert all(len(make(Swing(3))) == 3 for make in TRAJECTORIES.values())


def test_other_sizes_show_the_whole_view():
    points = transform_points(
        IN_HEAD.T_world_cam, torch.tensor([[-0.1, 0.05, 0.7], [0.12, -0.1, 0.8]])
    )
    pixels, _ = IN_HEAD.project(points)
    wide, _ = fitted(IN_HEAD, 256, 128).project(points)
    torch.testing.assert_close(wide, pixels * 2 + torch.tensor([64.0, 0.0]), atol=1e-3, rtol=0)


def test_another_lens_keeps_the_middle_and_has_its_angle():
    shifted = toys.camera(64).cropped(10, 4, 64, 64)
    camera = with_fov(shifted, 50)
    assert math.isclose(float(camera.K[0, 0]), 32 / math.tan(math.radians(25)), rel_tol=1e-5)
    ray = torch.linalg.inv(shifted.K) @ torch.tensor([32.0, 32.0, 1.0])
    torch.testing.assert_close((camera.K @ ray)[:2], torch.tensor([32.0, 32.0]), atol=1e-3, rtol=0)
    near = at_distance(IN_HEAD, 0.5)
    pixels, depth = near.project(CENTRE)
    torch.testing.assert_close(pixels, IN_HEAD.project(CENTRE)[0], atol=1e-3, rtol=0)
    assert math.isclose(float((near.center - CENTRE[0]).norm()), 0.5, rel_tol=1e-5)


def test_anchors():
    states, rest = toys.random_states((4,)), toys.head_pose()
    base = toys.camera(64)
    for kind in ("rest", "frame", "head"):
        frames, first = anchors(kind, rest, states.T_world_head)
        assert frames.shape == (4, 4, 4)
        view = in_world(base.in_frame(first), frames[2])
        if kind == "head":  # seen from the head, the camera stands where it does at rest
            torch.testing.assert_close(
                view.in_frame(states.T_world_head[2]).T_cam_world,
                base.in_frame(rest).T_cam_world,
                atol=1e-5,
                rtol=0,
            )
        else:  # not turned, it is the recording's
            torch.testing.assert_close(view.T_cam_world, base.T_cam_world, atol=1e-5, rtol=0)
