"""The tracker on sequences whose truth is known, on gaps, outliers and bad input, and on a real
clip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.landmarks import LIP_HEIGHTS
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.tracker import track
from likeness.scene.capture import Identity
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotation_angles, rotvecs_to_matrices

FPS = 30.0
FRAMES = 120
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
CONFIG = TrackerConfig()


@pytest.fixture(scope="module")
def model():
    return HEAD_MODELS["anny"]()


@pytest.fixture(scope="module")
def scene(model):
    """A person who turns, nods, speaks, smiles and blinks: states, K, clean and noisy landmarks,
    the truth's curves."""
    rng = np.random.default_rng(3)
    t = np.arange(FRAMES) / FPS
    names = model.expression_names
    blink = np.zeros(FRAMES)
    for centre in (0.6, 1.7, 3.1):
        blink = np.maximum(blink, np.clip(1.2 - np.abs(t - centre) / 0.13, 0, 1))
    curves = {
        "eyeBlinkLeft": blink,
        "eyeBlinkRight": blink,
        "jawOpen": 0.3 - 0.3 * np.cos(2 * np.pi * 0.9 * t),
        "mouthSmileLeft": 0.3 + 0.3 * np.sin(2 * np.pi * 0.31 * t),
        "mouthPucker": 0.1 + 0.1 * np.sin(5 * t),
    }
    curves["mouthSmileRight"] = curves["mouthSmileLeft"]
    expression = torch.zeros(FRAMES, len(names), dtype=torch.float64)
    for name, curve in curves.items():
        expression[:, names.index(name)] = torch.from_numpy(curve)
    yaw_pitch = np.stack(
        [0.25 * np.sin(2 * np.pi * 0.4 * t), 0.1 * np.sin(2 * np.pi * 0.55 * t)], -1
    )
    angles = torch.from_numpy(np.stack([yaw_pitch, yaw_pitch], 1))
    expression += gaze_expression(angles, names)
    turns = np.stack(
        [0.15 * np.sin(2.1 * t), 0.35 * np.sin(1.3 * t + 1), 0.08 * np.sin(1.7 * t)], 1
    )
    rotation = FACING @ rotvecs_to_matrices(torch.from_numpy(turns))
    place = torch.from_numpy(
        np.stack([0.02 * np.sin(t), 0.01 * np.cos(t), 0.9 + 0.05 * np.sin(0.8 * t)], 1)
    )
    pose = make_transform(rotation, place).float()
    states = HeadState(expression.float(), gaze_quats(angles).float(), pose, pose)
    identity = Identity(
        torch.from_numpy(rng.normal(0, 0.6, model.num_identity)).float(), 0 * model.template
    )
    # off-centre
    K = torch.tensor([[1300.0, 0, 300], [0, 1300, 230], [0, 0, 1]], dtype=torch.float64)
    mesh = model.shaped(identity).posed(states)
    bias = torch.from_numpy(rng.normal(0, 1e-3, (478, 3))).float()
    points = project(mesh.landmarks() + bias, pose, K) + torch.from_numpy(
        rng.normal(0, 0.5, (FRAMES, 478, 2))
    )
    return dataclasses.make_dataclass("Scene", ["states", "K", "points", "angles"])(
        states, K, points, angles
    )


@pytest.fixture(scope="module")
def tracked(model, scene):
    return track(scene.points, torch.ones(FRAMES, 478), scene.K, model, FPS)


def project(points, pose, K):
    image = (points @ pose[:, :3, :3].transpose(1, 2) + pose[:, None, :3, 3]).double() @ K.T
    return image[..., :2] / image[..., 2:]


def rotation_error(tracking, states, part=slice(None)):
    a, b = tracking.states.T_world_head[part, :3, :3], states.T_world_head[part, :3, :3]
    return torch.rad2deg(rotation_angles(a @ b.transpose(1, 2)))


def correlation(a, b) -> float:
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


def test_known_truth_is_found(model, scene, tracked):
    assert rotation_error(tracked, scene.states).median() < 1.0
    for name in ("eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "jawOpen"):
        column = model.expression_names.index(name)
        assert (
            correlation(tracked.states.expression[:, column], scene.states.expression[:, column])
            > 0.9
        ), name
    # a bias of 1 mm an axis, not smooth, is 1.7 by itself
    assert tracked.residual_percent.median() < 1.8
    distance = tracked.states.T_world_head[:, 2, 3] / scene.states.T_world_head[:, 2, 3]
    # a face's size is known to that only
    assert 0.93 < distance.median() < 1.07 and distance.std() < 0.01


def test_coefficients_stay_in_bounds(model, tracked):
    expression = tracked.states.expression
    assert expression.min() >= 0 and expression.max() <= 1
    close, jaw = (model.expression_names.index(name) for name in ("mouthClose", "jawOpen"))
    assert (expression[:, close] <= expression[:, jaw] + 1e-6).all()
    assert tracked.saturated == {} or max(tracked.saturated.values()) < 0.05


def test_energy_goes_down(tracked):
    energy = np.array(tracked.energy[CONFIG.pose_iterations + 1 :])  # from where everything moves
    assert (np.diff(energy) < 0.02 * energy[:-1]).all() and energy[-1] < 0.9 * energy[0]


def test_a_mouth_that_is_mostly_open_is_closed_at_rest(model, scene):
    """Lips meet at coefficient 0, and part as far as the landmarks do."""
    mostly_open = scene.states.expression.clone()
    jaw = model.expression_names.index("jawOpen")
    mostly_open[:, jaw] = 0.2 + 0.5 * mostly_open[:, jaw]
    states = dataclasses.replace(scene.states, expression=mostly_open)
    identity = Identity(torch.zeros(model.num_identity), 0 * model.template)
    shown = model.shaped(identity).posed(states).landmarks()
    K, pose = scene.K, states.T_world_head
    tracking = track(project(shown, pose, K), torch.ones(FRAMES, 478), K, model, FPS)
    person = model.shaped(tracking.identity)
    upper, lower = torch.tensor(LIP_HEIGHTS).T
    rest = model.landmark_vertices(person.vertices)
    assert (rest[upper, 1] - rest[lower, 1]).abs().max() < 0.3e-3

    def opening(points):
        return (points[:, upper] - points[:, lower]).norm(dim=-1).mean(-1)

    of_mesh = opening(person.posed(tracking.states).landmarks())
    ratio = of_mesh / opening(shown) * (shown[:, 33] - shown[:, 263]).norm(dim=-1)
    found = person.posed(tracking.states).landmarks()
    ratio = ratio / (found[:, 33] - found[:, 263]).norm(dim=-1)
    assert 0.95 < float(ratio.median()) < 1.05


def test_lips_drawn_apart_over_closed_teeth_are_not_a_jaw(model, scene):
    """The jaw parts lips ten times as far as their own shapes do: it must not be what is
    cheapest."""
    names = model.expression_names
    wave = torch.from_numpy(np.sin(np.pi * np.arange(FRAMES) / 10))  # ten frames each in turn
    lips, jaw = (0.8 * wave).clamp_min(0), (-0.4 * wave).clamp_min(0)
    expression = torch.zeros(FRAMES, len(names), dtype=torch.float64)
    for name in ("mouthUpperUp", "mouthLowerDown"):
        for side in ("Left", "Right"):
            expression[:, names.index(name + side)] = lips
    expression[:, names.index("jawOpen")] = jaw
    states = dataclasses.replace(scene.states, expression=expression.float())
    identity = Identity(torch.zeros(model.num_identity), 0 * model.template)
    K, pose = scene.K, states.T_world_head
    shown = project(model.shaped(identity).posed(states).landmarks(), pose, K)
    tracking = track(shown, torch.ones(FRAMES, 478), K, model, FPS)
    error = tracking.states.expression[:, names.index("jawOpen")] - jaw
    assert error[lips > 0.5].mean() < 0.17  # 0.18 at equal costs
    assert error[jaw > 0.2].abs().mean() < 0.03  # 0.04


def test_the_reported_residual_is_that_of_the_model(model, scene, tracked):
    mesh = model.shaped(tracked.identity).posed(tracked.states)
    pixels = project(mesh.landmarks(), tracked.states.T_world_head, scene.K)
    expected = (pixels - scene.points).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(tracked.residual_px.double(), expected, rtol=1e-3, atol=1e-3)


def test_gaze_follows_the_irises_and_is_held_in_blinks(model, scene, tracked):
    forward = torch.tensor([0.0, 0, 1])
    from likeness.scene.transforms import quats_to_matrices

    looks = quats_to_matrices(tracked.states.joints) @ forward
    yaw = torch.atan2(looks[..., 0], looks[..., 2])
    for eye in (0, 1):
        assert correlation(yaw[:, eye], scene.angles[:, eye, 0]) > 0.95
        assert (yaw[:, eye] - scene.angles[:, eye, 0]).abs().median() < 0.06
    assert correlation(looks[:, 0, 1], scene.angles[:, 0, 1]) > 0.8
    assert yaw.diff(dim=0).abs().max() < 0.12
    out = model.expression_names.index("eyeLookOutLeft")
    turned = yaw[:, 0].clamp_min(0) / np.radians(30)
    torch.testing.assert_close(
        tracked.states.expression[:, out], turned.clamp(0, 0.98), atol=2e-3, rtol=0
    )


def test_missing_frames_are_bridged_and_wild_ones_ignored(model, scene):
    points, confidence = scene.points.clone(), torch.ones(FRAMES, 478)
    confidence[50:56] = 0
    points[50:56] = torch.nan
    generator = torch.Generator().manual_seed(1)
    points[80] += 60 * torch.randn(478, 2, generator=generator)  # noise
    points[90] += 150  # another face
    result = track(points, confidence, scene.K, model, FPS)
    error = rotation_error(result, scene.states)
    assert error.median() < 1.0
    assert error[50:56].max() < 3.0 and error[[80, 90]].max() < 4.0
    assert result.found.sum() == FRAMES - 6 and result.residual_px[50:56].isnan().all()
    assert torch.isfinite(result.states.expression).all()


def test_times_may_be_uneven(model, scene):
    kept = torch.tensor([index for index in range(FRAMES) if index % 3])
    times = kept / FPS
    result = track(scene.points[kept], torch.ones(len(kept), 478), scene.K, model, FPS, times=times)
    assert rotation_error(result, scene.states[kept]).median() < 1.0


def test_chunks_change_nothing(model, scene):
    short = scene.points[:24]
    quick = dataclasses.replace(CONFIG, iterations=5)
    one = track(short, torch.ones(24, 478), scene.K, model, FPS, quick)
    other = track(
        short, torch.ones(24, 478), scene.K, model, FPS, dataclasses.replace(quick, chunk_frames=7)
    )
    torch.testing.assert_close(one.states.expression, other.states.expression, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        one.states.T_world_head, other.states.T_world_head, atol=1e-5, rtol=0
    )


def test_too_few_frames_and_wrong_shapes(model, scene):
    confidence = torch.zeros(FRAMES, 478)
    confidence[:2] = 1
    with pytest.raises(UserError, match="found in 2 of 120 frames"):
        track(scene.points, confidence, scene.K, model, FPS)
    with pytest.raises(ValueError, match="expected landmarks"):
        track(scene.points[:, :468], confidence, scene.K, model, FPS)
    with pytest.raises(ValueError, match="expected one K"):
        track(scene.points, confidence, scene.K.expand(FRAMES, 3, 3), model, FPS)


def test_a_real_clip(model, shared_clip):
    """subject_c (glasses, smiles): residual, meaningful curves, a face that still looks like
    one."""
    import cv2

    from likeness.preprocess.landmarks import detect

    video = cv2.VideoCapture(str(shared_clip("subject_c")))
    frames = [video.read()[1][..., ::-1].copy() for _ in range(120)]
    height, width = frames[0].shape[:2]
    seen = detect(frames)
    K = torch.tensor([[2.5 * width, 0, width / 2], [0, 2.5 * width, height / 2], [0, 0, 1.0]])
    points = torch.as_tensor(seen.points)
    confidence = torch.as_tensor(seen.found).float()[:, None].expand(-1, 478)
    result = track(points, confidence, K, model, 30.0)
    assert result.residual_percent.median() < 1.4
    assert max(result.saturated.values(), default=0.0) < 0.02
    mouth = (points[:, 61] - points[:, 291]).norm(dim=-1) / (points[:, 33] - points[:, 263]).norm(
        dim=-1
    )
    columns = [model.expression_names.index(f"mouthSmile{side}") for side in ("Left", "Right")]
    assert correlation(result.states.expression[:, columns].sum(-1), mouth) > 0.8
    # no grown nose
    assert model.landmark_vertices(result.identity.offsets)[..., 2].abs().max() < 5e-3
