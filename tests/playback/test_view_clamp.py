"""Beyond a recording's views colours are clamped and hidden Gaussians shrunk; within them nothing
changes."""

from __future__ import annotations

import dataclasses
import math

import torch

from likeness.ops import harmonics
from likeness.playback.player import Player
from likeness.playback.view_clamp.gaussians import ClampedGaussians
from likeness.playback.view_clamp.views import ClampedView, Cone, RecordedViews, seen_from
from likeness.playback.views.backgrounds import Background
from likeness.playback.views.rendering import ViewRenderer
from likeness.playback.views.trajectories import HEAD_CENTRE, Angle, in_world, turned
from likeness.scene.cloud import GaussianCloud
from tests import toys
from tests.contract.test_avatars import EXTENDED, make

CENTRE = torch.tensor([HEAD_CENTRE])


def test_cones_clamp_what_lies_outside_to_their_border():
    camera = toys.camera(64)
    poses = torch.stack([toys.head_pose(math.radians(yaw)) for yaw in torch.linspace(-10, 10, 200)])
    cone = Cone.of(camera, poses)
    frontal = camera.in_frame(toys.head_pose())
    within = turned(frontal, Angle(8)).center
    assert cone.nearest(within) == (within, 0)
    clamped, outside = cone.nearest(turned(frontal, Angle(30)).center)
    assert 16 < math.degrees(outside) < 19
    clamped = clamped - CENTRE[0]
    yaw = math.degrees(math.atan2(float(clamped[0]), float(clamped[2])))
    assert 11 < yaw < 14  # the border and its margin
    assert math.isclose(
        float(clamped.norm()), float((frontal.center - CENTRE[0]).norm()), rel_tol=1e-5
    )


def test_clamped_colours_are_those_of_the_view_they_are_clamped_to():
    avatar = make("headgas", EXTENDED)
    state = toys.random_states(())
    eye, other = torch.tensor([0.1, 0.0, 0.9]), torch.tensor([-0.8, 0.3, 0.5])
    with torch.no_grad():
        cloud = avatar(state, eye)
    expected = harmonics.evaluate(
        cloud.sh, torch.nn.functional.normalize(cloud.means - eye, dim=-1)
    )
    seen = harmonics.evaluate(
        seen_from(cloud, eye).sh, torch.nn.functional.normalize(cloud.means - other, dim=-1)
    )
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    view = ClampedView(eye, other, 0.1, 0.5)
    # the first follows the body, the last the head
    weights = torch.linspace(0, 1, cloud.num_gaussians)
    mixed = harmonics.evaluate(seen_from(cloud, view.eyes(weights)).sh, cloud.means)
    torch.testing.assert_close(mixed[-1], expected[-1], atol=1e-5, rtol=0)
    assert (mixed[0] - expected[0]).abs().max() > 1e-4
    amount = view.amount(weights)
    assert float(amount[0]) == 1 and math.isclose(
        float(amount[-1]), 0.1 / math.radians(10), rel_tol=1e-5
    )


def test_a_still_body_is_clamped_while_the_head_may_turn():
    """The recording turns the head by 20° before a body that stands still; a camera turned by 20°
    shows no new head."""
    yaws = torch.linspace(-0.35, 0.35, 60)
    poses = torch.stack([toys.head_pose(float(yaw)) for yaw in yaws])
    recording = dataclasses.replace(
        toys.random_states((60,)),
        T_world_head=poses,
        T_world_body=toys.head_pose().expand(60, 4, 4),
    )
    bundle = dataclasses.replace(toys.bundle(make("headgas")), recording=recording)
    rest = bundle.default_state
    view = turned(bundle.default_camera.in_frame(rest.T_world_head), Angle(18))
    clamped = RecordedViews(bundle).clamped(rest, view.center)
    assert clamped.head_outside == 0 and 14 < math.degrees(clamped.body_outside) < 16
    own = bundle.default_camera.in_frame(rest.T_world_head).center
    assert not RecordedViews(bundle).clamped(rest, own).is_outside


def test_a_player_clamps_views_only_when_asked_and_only_beyond_the_recording():
    bundle = toys.bundle(make("headgas", EXTENDED), 48)
    recording = dataclasses.replace(bundle.recording, T_world_body=bundle.recording.T_world_head)
    player = Player(dataclasses.replace(bundle, recording=recording))
    state, gaussians = recording[3], player.clamped.gaussians()
    own = bundle.default_camera
    assert torch.equal(player.step(state, own, clamp_views=True).rgb, player.step(state, own).rgb)
    beside = in_world(turned(own.in_frame(state.T_world_head), Angle(60)), state.T_world_head)
    plain, shown = (player.step(state, beside, clamp_views=clamp) for clamp in (False, True))
    assert (plain.rgb - shown.rgb).abs().max() > 0.01
    white = Background("white")
    pictures = [
        ViewRenderer(player, white, extrapolate=e).output(state, beside).rgb for e in (True, False)
    ]
    assert torch.equal(pictures[0], plain.rgb) and torch.equal(pictures[1], shown.rgb)
    assert player.clamped.gaussians() is gaussians  # looked at once
    measured = Player(player.bundle).step(state, beside).rgb
    torch.testing.assert_close(measured, plain.rgb, atol=0, rtol=0)


def test_hidden_gaussians_take_on_the_colours_around_them():
    """A shell that is green hides a red core, in an avatar that is always the same."""
    shell, core = toys.blob(1500), toys.blob(100, seed=1)
    core = dataclasses.replace(core, means=(core.means - CENTRE) * 0.3 + CENTRE)
    green, red = (
        harmonics.from_rgb(torch.tensor(c)).expand(1600, 1, 3)
        for c in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
    )
    cloud = GaussianCloud(
        *(
            torch.cat([getattr(shell, n), getattr(core, n)])
            for n in ("means", "quats", "scales", "opacities")
        ),
        sh=torch.cat([green[:1500], red[:100]]),
    )
    player = Player(
        dataclasses.replace(toys.bundle(make("headgas")), default_camera=toys.camera(48))
    )
    player._evaluator = player.avatar = _Still(cloud)
    seen = ClampedGaussians.of(player)
    front = cloud.means[:1500, 2] > -0.02
    assert seen.confidence[:1500][front].mean() > 0.8 and seen.confidence[1500:].max() < 0.3
    filled = harmonics.evaluate(seen.clamped(cloud, 1.0).sh, cloud.means)
    assert (filled[1500:, 1] > 0.7).all() and (filled[1500:, 0] < 0.3).all()
    large = dataclasses.replace(cloud, scales=torch.full_like(cloud.scales, 0.03))
    bounded = seen.clamped(large, 1.0).scales
    assert (bounded[1500:] < 0.015).all() and (
        bounded[seen.confidence == 1] == large.scales[0, 0]
    ).all()
    for name, value in seen.clamped(cloud, 0.0).fields().items():
        torch.testing.assert_close(value, cloud.fields()[name])


class _Still:
    view_dependent = overwrites = False

    def __init__(self, cloud: GaussianCloud) -> None:
        self._cloud, self.num_gaussians = cloud, cloud.num_gaussians

    def __call__(self, state, eye) -> GaussianCloud:
        return self._cloud
