"""What every head model must do, whoever made it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.arkit import ARKIT_EXPRESSIONS, mirrored_expression
from likeness.head_models.base import HeadModel
from likeness.scene.capture import Identity
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import quats_to_matrices, rotvecs_to_quats

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module", params=list(HEAD_MODELS))
def model(request) -> HeadModel:
    return HEAD_MODELS[request.param]()


def random_identity(model: HeadModel, *batch: int) -> Identity:
    offsets = 1e-3 * torch.randn(*batch, *model.template.shape)
    return Identity(torch.randn(*batch, model.num_identity), offsets.to(model.template))


def random_state(model: HeadModel, *batch: int) -> HeadState:
    eye = torch.eye(4).expand(*batch, 4, 4)
    joints = rotvecs_to_quats(0.3 * torch.randn(*batch, len(model.joint_names), 3))
    return HeadState(torch.rand(*batch, len(model.expression_names)), joints, eye, eye)


def with_expression(model: HeadModel, **coefficients: float) -> HeadState:
    state = model.neutral_state()
    expression = state.expression.clone()
    for name, value in coefficients.items():
        expression[model.expression_names.index(name)] = value
    return dataclasses.replace(state, expression=expression)


def test_names(model):
    assert model.expression_names == ARKIT_EXPRESSIONS
    assert len(ARKIT_EXPRESSIONS) == len(set(ARKIT_EXPRESSIONS)) == 52
    assert [ARKIT_EXPRESSIONS[index] for index in (0, 17, -1)] == [
        "eyeBlinkLeft",
        "jawOpen",
        "tongueOut",
    ]
    assert model.joint_names == ("eye_left", "eye_right")
    assert {"skin", "eye_left", "eye_right"} <= set(model.part_names)
    assert HEAD_MODELS[model.name]().name == model.name


def test_types_and_ranges(model):
    for field in dataclasses.fields(HeadModel):
        value = getattr(model, field.name)
        if isinstance(value, torch.Tensor):
            assert value.dtype in (torch.float32, torch.int64), field.name
            assert torch.isfinite(value).all(), field.name
    count = len(model.template)
    assert sorted(set(model.faces.flatten().tolist())) == list(range(count))
    assert model.uv_faces.max() == len(model.uvs) - 1
    assert model.landmark_faces.shape == (478,) and model.landmark_faces.max() < len(model.faces)
    assert (model.landmark_barycentrics >= 0).all()
    assert torch.allclose(model.landmark_barycentrics.sum(-1), torch.ones(478), atol=1e-5)
    # Every vertex has a part, that of one of its faces.
    has = torch.zeros(count, len(model.part_names), dtype=torch.bool)
    for corner in range(3):
        has[model.faces[:, corner], model.face_part] = True
    assert has[torch.arange(count), model.vertex_part].all()


def test_axes_units_and_origin(model):
    """A head of human size, +x to the subject's left, +y up, +z out of the face, the origin between
    the eyes."""
    size = model.template.amax(0) - model.template.amin(0)
    assert 0.13 < size[0] < 0.22 and 0.2 < size[1] < 0.4 and 0.15 < size[2] < 0.3
    left, right = model.joint_centers(model.template)
    assert 0.025 < left[0] < 0.038 and torch.allclose(left * FLIP, right, atol=1e-6)
    assert (left + right).norm() < 1e-5
    points = model.landmark_vertices(model.template)
    nose, chin, forehead = points[1], points[152], points[10]
    assert nose[2] > 0.03 and chin[1] < -0.08 and forehead[1] > 0.03
    # FaceMesh: 263 is the subject's left outer eye corner, 468.. the right iris, 473.. the left
    # one.
    assert points[263, 0] > 0.03 > -0.03 > points[33, 0]
    assert (points[473:478] - left).norm(dim=-1).max() < 0.02
    assert (points[468:473] - right).norm(dim=-1).max() < 0.02


def test_faces_look_outwards(model):
    """The eyeballs and the skin enclose positive volume."""
    for part in ("eye_left", "eye_right", "skin"):
        a, b, c = model.template[model.part_faces(part)].unbind(1)
        center = torch.cat([a, b, c]).mean(0)
        volume = (torch.linalg.cross(b - a, c - a) * (a + b + c - 3 * center)).sum() / 18
        assert volume > 0, part


def test_mirror_is_exact(model):
    mirror = model.mirror
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert torch.equal(model.template[mirror] * FLIP, model.template)
    assert torch.equal(model.landmark_mirror[model.landmark_mirror], torch.arange(478))
    for index, name in enumerate(model.expression_names):
        twin = model.expression_basis[model.expression_names.index(mirrored_expression(name))]
        assert torch.equal(model.expression_basis[index][mirror] * FLIP, twin), name
    points = model.landmark_vertices(model.template)
    assert (points[model.landmark_mirror] * FLIP - points).norm(dim=-1).max() < 1e-3


def test_left_is_the_subjects_left(model):
    """Each one-sided shape moves its own side most; sideways shapes go where their name says."""
    for name, shape in zip(model.expression_names, model.expression_basis):
        if not name.endswith(("Left", "Right")):
            continue
        side = 1 if name.endswith("Left") else -1
        if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            assert side * shape[:, 0].sum() > 0, name
        else:
            amount = shape.norm(dim=-1)
            assert side * (amount * model.template[:, 0]).sum() > 0, name


def test_neutral_is_the_template(model):
    head = model.shaped(model.neutral_identity())
    assert torch.equal(head.vertices, model.template)
    mesh = head.posed(model.neutral_state())
    assert torch.allclose(mesh.vertices, model.template, atol=1e-8)
    assert mesh.landmarks().shape == (478, 3) and mesh.faces is model.faces


def test_batches_equal_singles(model):
    head = model.shaped(random_identity(model))
    states = random_state(model, 2, 3)
    batch = head.posed(states)
    assert batch.vertices.shape == (2, 3, len(model.template), 3) and batch.landmarks().shape == (
        2,
        3,
        478,
        3,
    )
    single = head.posed(states[1, 2])
    assert torch.allclose(batch.vertices[1, 2], single.vertices, atol=1e-6)
    assert torch.allclose(batch.landmarks()[1, 2], single.landmarks(), atol=1e-6)
    assert torch.allclose(batch.normals()[1, 2], single.normals(), atol=1e-3)
    people = random_identity(model, 2)
    several = model.shaped(people).posed(states[:, 0])
    one = model.shaped(Identity(people.coefficients[1], people.offsets[1])).posed(states[1, 0])
    assert torch.allclose(several.vertices[1], one.vertices, atol=1e-6)


def test_landmarks_pull_the_same_rows_of_any_field(model):
    """A person's landmarks are linear in the expression: the tracker may work on their rows of the
    bases alone."""
    identity, state = random_identity(model), random_state(model)
    state = dataclasses.replace(state, joints=model.neutral_state().joints)
    shaped, landmarks = model.shaped(identity), model.landmark_vertices
    at_rest = landmarks(model.template + identity.offsets) + torch.tensordot(
        identity.coefficients, landmarks(model.identity_basis), 1
    )
    moved = torch.tensordot(model.capped(state.expression), landmarks(shaped.expression_basis), 1)
    assert torch.allclose(shaped.posed(state).landmarks(), at_rest + moved, atol=1e-6)


def test_eyeballs_turn_rigidly_about_their_centres(model):
    head = model.shaped(random_identity(model))
    state = random_state(model)
    mesh = head.posed(state)
    rotations = quats_to_matrices(state.joints)
    for joint, name in enumerate(model.joint_names):
        index = model.joint_vertices[joint]
        assert (model.vertex_part[index] == model.part_names.index(name)).all()
        rest, turned, center = head.vertices[index], mesh.vertices[index], head.joint_centers[joint]
        assert torch.allclose((rest - center) @ rotations[joint].T + center, turned, atol=1e-6)
        assert torch.allclose(torch.pdist(rest.double()), torch.pdist(turned.double()), atol=1e-7)
        assert torch.allclose(turned.mean(0), center, atol=1e-6)
    still = head.posed(dataclasses.replace(state, joints=model.neutral_state().joints))
    others = torch.ones(len(model.template), dtype=torch.bool)
    others[torch.cat(model.joint_vertices)] = False
    assert torch.equal(still.vertices[others], mesh.vertices[others])


def test_eye_centres_follow_identity(model):
    """Wider set eyes have wider set centres, and the lids stay where the eyeballs are."""
    centers = torch.stack([model.shaped(random_identity(model)).joint_centers for _ in range(20)])
    distance = (centers[:, 0] - centers[:, 1]).norm(dim=-1)
    assert 0.0003 < distance.std() < 0.005
    assert 0.045 < distance.min() and distance.max() < 0.075


def test_eyes_turn_the_way_quaternions_say(model):
    """A positive turn about +y looks to the subject's left, a positive turn about +x looks down."""
    points, rest = {}, model.landmark_vertices(model.template)
    for axis in range(2):
        turn = torch.zeros(len(model.joint_names), 3)
        turn[:, axis] = 0.3
        state = dataclasses.replace(model.neutral_state(), joints=rotvecs_to_quats(turn))
        points[axis] = model.shaped(model.neutral_identity()).posed(state).landmarks() - rest
    assert (points[1][468:, 0] > 0.003).all()
    assert (points[0][468:, 1] < -0.003).all()


def test_caps(model):
    for capped, by in model.caps:
        head = model.shaped(model.neutral_identity())
        alone = head.posed(with_expression(model, **{capped: 1.0}))
        assert torch.allclose(alone.vertices, model.template, atol=1e-7)
        half = head.posed(with_expression(model, **{capped: 1.0, by: 0.5}))
        assert torch.equal(
            half.vertices, head.posed(with_expression(model, **{capped: 0.5, by: 0.5})).vertices
        )
        under = with_expression(model, **{capped: 0.2, by: 0.5})
        assert torch.equal(model.capped(under.expression), under.expression)


def test_gradients(model):
    """Finite everywhere, and equal to finite differences (in float64)."""
    exact = model.to(dtype=torch.float64)
    state, identity = random_state(model).to(torch.float64), random_identity(model)
    weights = torch.randn(478, 3, dtype=torch.float64)
    turns = 0.1 * torch.randn(len(model.joint_names), 3, dtype=torch.float64)
    start = [identity.coefficients.double(), identity.offsets.double(), state.expression, turns]

    def value(coefficients, offsets, expression, turns):
        posed = dataclasses.replace(state, expression=expression, joints=rotvecs_to_quats(turns))
        return (
            exact.shaped(Identity(coefficients, offsets)).posed(posed).landmarks() * weights
        ).sum()

    inputs = [tensor.clone().requires_grad_() for tensor in start]
    gradients = torch.autograd.grad(value(*inputs), inputs)
    for number, gradient in enumerate(gradients):
        assert torch.isfinite(gradient).all()
        step = torch.randn_like(start[number]) * 1e-5
        ahead, behind = list(start), list(start)
        ahead[number], behind[number] = start[number] + step, start[number] - step
        difference = (value(*ahead) - value(*behind)) / 2
        assert difference.item() == pytest.approx(
            (gradient * step).sum().item(), rel=1e-4, abs=1e-12
        )


def test_gradients_at_neutral_are_finite(model):
    expression = torch.zeros(52, requires_grad=True)
    state = dataclasses.replace(model.neutral_state(), expression=expression)
    mesh = model.shaped(model.neutral_identity()).posed(state)
    (gradient,) = torch.autograd.grad(
        mesh.normals().sum() + mesh.vertices.square().sum(), expression
    )
    assert torch.isfinite(gradient).all()


def test_texture_coordinates(model):
    """Inside the square, no face turned over, and no texel claimed twice; the skin has most of
    it."""
    assert (model.uvs >= 0).all() and (model.uvs <= 1).all()
    corners = model.uvs[model.uv_faces].double().numpy()
    a, b, c = corners.transpose(1, 0, 2)
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (areas > 0).all()
    size = 1024
    claims = np.zeros((size, size), np.int32)
    for triangle in corners * size:
        low = np.maximum(np.floor(triangle.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(triangle.max(0)).astype(int), size)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        inside = np.ones(x.shape, bool)
        for corner in range(3):
            p, q = triangle[corner], triangle[(corner + 1) % 3]
            inside &= (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 1e-6
        claims[low[1] : high[1], low[0] : high[0]] += inside
    assert claims.max() == 1
    skin = areas[model.face_part.numpy() == model.part_names.index("skin")].sum()
    assert skin > 0.4 and skin > 0.7 * areas.sum()


def test_wrong_shapes_are_named(model):
    head = model.shaped(model.neutral_identity())
    short = dataclasses.replace(model.neutral_state(), expression=torch.zeros(51))
    with pytest.raises(
        ValueError, match=r"HeadState.expression: expected shape \[\*b, 52\], got \[51\]"
    ):
        head.posed(short)
    with pytest.raises(ValueError, match="Identity.coefficients"):
        model.shaped(Identity(torch.zeros(3), torch.zeros_like(model.template)))
    with pytest.raises(ValueError, match="HeadModel.mirror"):
        dataclasses.replace(model, mirror=model.mirror[:-1])
    with pytest.raises(ValueError, match="has no"):
        model.part_faces("skin", "horns")
