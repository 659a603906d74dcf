"""The tracker's parts against slow and obvious twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.landmarks import IRISES, OVAL
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.initialization import initial_poses
from likeness.preprocess.tracking.outline import residual_metric
from likeness.preprocess.tracking.priors import Timeline, acceleration_prior, velocity_prior
from likeness.preprocess.tracking.projection import (
    ROTATION_UNIT,
    TRANSLATION_UNIT,
    pose_jacobian,
    project,
)
from likeness.preprocess.tracking.rig import build_rig
from likeness.preprocess.tracking.shape import build_shape_basis
from likeness.preprocess.tracking.solver import fix, solve_in_time
from likeness.scene.capture import Identity
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import quats_to_matrices, rotation_angles, rotvecs_to_matrices

CONFIG = TrackerConfig()
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


@pytest.fixture(scope="module")
def model():
    return HEAD_MODELS["anny"]()


@pytest.fixture(scope="module")
def basis(model):
    return build_shape_basis(model, CONFIG)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
def test_banded_solve_equals_a_dense_one(num_frames):
    rng = np.random.default_rng(num_frames)
    size, held_back = 5, 2
    factors = rng.normal(size=(num_frames, size, size))
    blocks = factors @ factors.transpose(0, 2, 1) + 8 * np.eye(size)
    first = rng.normal(size=(num_frames - 1, size))
    second = rng.normal(size=(max(num_frames - 2, 0), held_back))
    right = rng.normal(size=(num_frames, size))
    held = rng.random((num_frames, size)) < 0.3
    dense = np.zeros((num_frames, size, num_frames, size))
    for t in range(num_frames):
        dense[t, :, t] = blocks[t]
        if t + 1 < num_frames:
            dense[t, :, t + 1] = dense[t + 1, :, t] = np.diag(first[t])
        if t + 2 < num_frames:
            dense[t, range(2), t + 2, range(2)] = dense[t + 2, range(2), t, range(2)] = second[t]
    dense = dense.reshape(num_frames * size, -1)
    np.testing.assert_allclose(
        solve_in_time(blocks, first, second, right).ravel(),
        np.linalg.solve(dense, right.ravel()),
        atol=1e-10,
    )
    free = ~held.ravel()
    expected = np.zeros(free.shape)
    expected[free] = np.linalg.solve(dense[free][:, free], right.ravel()[free])
    np.testing.assert_allclose(
        solve_in_time(*fix(blocks, first, second, right, held)).ravel(), expected, atol=1e-10
    )


def test_priors_in_time_are_the_derivatives_of_their_energies():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.06, 7))
    times[4:] += 2.0  # a gap
    timeline = Timeline.from_times(times, max_gap_s=0.5)
    weights = np.array([2.0, 0.5])
    x = rng.normal(size=(7, 2))
    for prior_of in (
        lambda v: acceleration_prior(np.diff(v, axis=0), timeline, weights),
        lambda v: velocity_prior(np.diff(v, axis=0), timeline, 0.7),
    ):
        prior = prior_of(x)
        matrix = np.zeros((7, 2, 7, 2))
        for t in range(7):
            matrix[t, [0, 1], t, [0, 1]] = prior.diagonal[t]
            if t < 6:
                matrix[t, [0, 1], t + 1, [0, 1]] = matrix[t + 1, [0, 1], t, [0, 1]] = prior.first[t]
            if t < 5:
                matrix[t, [0, 1], t + 2, [0, 1]] = matrix[t + 2, [0, 1], t, [0, 1]] = prior.second[
                    t
                ]
        matrix = matrix.reshape(14, 14)
        np.testing.assert_allclose(prior.gradient.ravel(), matrix @ x.ravel(), atol=1e-9)
        assert prior.energy == pytest.approx(0.5 * x.ravel() @ matrix @ x.ravel())
        assert prior.energy > 0
    steady = np.outer(times, [1.0, -2.0])
    assert acceleration_prior(np.diff(steady, axis=0), timeline, weights).energy == pytest.approx(
        0, abs=1e-15
    )
    jump = np.zeros((7, 2))
    jump[4:] = 1  # where the gap is: free
    assert velocity_prior(np.diff(jump, axis=0), timeline, 1.0).energy == 0
    assert acceleration_prior(np.diff(jump, axis=0), timeline, weights).energy == 0


def test_projection_derivatives():
    generator = torch.Generator().manual_seed(0)
    points = 0.1 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    K = torch.tensor([[900.0, 3, 200], [0, 950, 260], [0, 0, 1]], dtype=torch.float64)
    rotation = FACING @ rotvecs_to_matrices(
        0.3 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    )
    translation = torch.tensor([[0.05, -0.02, 0.8], [0.0, 0.1, 1.2]], dtype=torch.float64)

    def pixels(change):
        turned = rotvecs_to_matrices(change[:, :3] * ROTATION_UNIT) @ rotation
        return project(K, turned, translation + change[:, 3:] * TRANSLATION_UNIT, points)[0]

    zero = torch.zeros(2, 6, dtype=torch.float64)
    _, by_camera, rotated = project(K, rotation, translation, points)
    exact = pose_jacobian(by_camera, rotated)
    for axis in range(6):
        small = torch.zeros_like(zero)
        small[:, axis] = 1e-5
        numeric = (pixels(small) - pixels(-small)) / 2e-5
        torch.testing.assert_close(exact[..., axis], numeric, atol=1e-5, rtol=1e-5)


def test_first_poses_are_near(model):
    rig = build_rig(model, torch.zeros(1, 478, 3), CONFIG)
    rng = np.random.default_rng(0)
    turns = torch.from_numpy(rng.uniform([-0.4, -0.7, -0.4], [0.4, 0.7, 0.4], (20, 3)))
    rotation = FACING @ rotvecs_to_matrices(turns)
    translation = torch.from_numpy(rng.uniform([-0.15, -0.15, 0.7], [0.15, 0.15, 1.5], (20, 3)))
    K = torch.tensor([[1000.0, 0, 150], [0, 1000, 330], [0, 0, 1]], dtype=torch.float64)
    points = project(K, rotation, translation, rig.rest)[0]
    points[:, ::7] += 40 * torch.from_numpy(rng.normal(size=points[:, ::7].shape))  # outliers
    found, place = initial_poses(K, rig.rest, points, rig.weights.expand(20, -1))
    assert torch.rad2deg(rotation_angles(found @ rotation.transpose(1, 2))).max() < 6
    assert (place / translation)[:, 2].sub(1).abs().max() < 0.05
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(20, dtype=torch.float64))


def test_the_rig_is_the_model_at_its_landmarks(model, basis):
    rig = build_rig(model, basis.landmarks, CONFIG)
    generator = torch.Generator().manual_seed(0)
    controls = 0.3 * torch.rand(4, len(rig.control_names), generator=generator, dtype=torch.float64)
    coefficients = torch.randn(len(basis.prior), generator=generator, dtype=torch.float64)
    offsets = torch.einsum(
        "s,svd->vd", coefficients[basis.num_identity :], basis.vertices[basis.num_identity :]
    )
    identity = Identity(coefficients[: basis.num_identity].float(), offsets.float())
    expression = controls @ rig.controls
    names = model.expression_names
    assert (expression[:, names.index("mouthClose")] <= expression[:, names.index("jawOpen")]).all()
    neutral = model.neutral_state()
    state = HeadState(
        expression.float(), *(x.expand(4, *x.shape) for x in (neutral.joints, *[torch.eye(4)] * 2))
    )
    exact = model.shaped(identity).posed(state).landmarks().double()
    rest = rig.neutral(coefficients)
    basis_of_person = rig.of_person(rest).control_basis
    ours = rest + torch.einsum("tc,cld->tld", controls, basis_of_person)
    torch.testing.assert_close(ours, exact, atol=2e-6, rtol=0)
    assert rig.weights[list(IRISES)].sum() == 0 and float(rig.weights.sum()) == pytest.approx(1)


def test_offset_modes_are_smooth_and_leave_the_pose_alone(model, basis):
    modes = basis.landmarks[basis.num_identity :, : IRISES[0]]
    spread = modes.square().sum((0, 2)).mean().sqrt()
    # a millimetre per axis, less what poses can do
    assert spread == pytest.approx(3**0.5 * 1e-3, rel=0.2)
    for axis in range(3):
        assert modes[..., axis].mean(1).abs().max() < 1e-8  # no translation
    edges = torch.cat([model.faces[:, [0, 1]], model.faces[:, [1, 2]]])
    skin = (model.vertex_part[edges] == model.part_names.index("skin")).all(-1)
    fields = basis.vertices[basis.num_identity :]
    field = fields.square().sum((0, 2)).sqrt()
    steps = fields[:, edges[skin, 0]] - fields[:, edges[skin, 1]]
    assert steps.square().sum((0, 2)).sqrt().mean() < 0.25 * field.mean()
    for joint in model.joint_vertices:  # eyeballs move as one
        carried = fields[:, joint]
        shift = (carried - carried.mean(1, keepdim=True)).norm(dim=-1).max()
        assert shift < 2e-4


def test_the_outline_counts_across_only():
    config = TrackerConfig(outline_tangent_weight=0.04)
    rest = torch.randn(478, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.linspace(0, 2 * np.pi, len(OVAL) + 1, dtype=torch.float64)[:-1]
    # far from the others
    rest[list(OVAL), 0], rest[list(OVAL), 1] = 10 * turn.sin(), 10 * turn.cos()
    points = 100 * rest[None, :, :2] * torch.tensor([1.0, -1.0])
    metric = residual_metric(points, rest, config)[0]
    radial = torch.nn.functional.normalize(points[0, list(OVAL)], dim=-1)
    along = torch.stack([-radial[:, 1], radial[:, 0]], -1)
    outline = metric[list(OVAL)]
    torch.testing.assert_close((outline @ radial[..., None])[..., 0], radial, atol=1e-6, rtol=0)
    torch.testing.assert_close((outline @ along[..., None])[..., 0], 0.2 * along, atol=1e-6, rtol=0)
    inner = [index for index in range(478) if index not in OVAL]
    torch.testing.assert_close(
        metric[inner], torch.eye(2, dtype=torch.float64).expand(len(inner), 2, 2)
    )


def test_gaze_signs(model):
    # to the subject's left, and up
    angles = torch.tensor([[[0.3, 0.2], [0.3, 0.2]]], dtype=torch.float64)
    forward = quats_to_matrices(gaze_quats(angles))[0] @ torch.tensor(
        [0, 0, 1.0], dtype=torch.float64
    )
    assert (forward[:, 0] > 0.25).all() and (forward[:, 1] > 0.15).all()
    values = gaze_expression(angles, model.expression_names)[0]
    active = {name for name, value in zip(model.expression_names, values) if value > 0}
    assert active == {"eyeLookOutLeft", "eyeLookInRight", "eyeLookUpLeft", "eyeLookUpRight"}
    assert values.max() == pytest.approx(np.degrees(0.3) / 30, abs=1e-6)
