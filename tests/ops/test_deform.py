"""How Gaussians move: what the formulas promise, and the kernels against the reference."""

from __future__ import annotations

import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.ops.deform import (
    deform,
    deform_reference,
    displacement,
    lattice_offsets,
    shapes_of_gaussians,
)
from likeness.ops.deform_cpu import frames_of
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import COLUMNS, HIGH_M, LOW_M, NUM_POINTS
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import (
    make_transform,
    matrices_to_quats,
    normalize_quats,
    quats_to_matrices,
    rotvecs_to_matrices,
)

MOTIONS = "displacement", "secondary_motion", "head", "body", "head_weights"


def example(count, batch=(), shared=True, coefficients=4, motions=MOTIONS, angle=0.5, seed=0):
    """Leaves of a cloud around the head, and of what moves it; poses as (rotation vector,
    translation)."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=g)

    own = () if shared else batch
    cloud = {
        "means": some(*own, count, 3, scale=0.15),
        "quats": some(*own, count, 4),
        "scales": torch.rand(*own, count, 3, generator=g),
        "opacities": torch.rand(*own, count, generator=g),
        "sh": some(*own, count, coefficients, 3),
    }
    motion = {
        "displacement": some(*batch, count, 3, scale=0.01),
        "secondary_motion": some(*batch, NUM_POINTS, 2, scale=0.01),
        "head": some(*batch, 6, scale=angle),
        "body": some(*batch, 6, scale=angle),
        "head_weights": torch.rand(count, generator=g),
    }
    return cloud, {name: motion[name] for name in motions}


def moved(cloud, motion, function=deform):
    motion = dict(motion)
    for name in ("head", "body"):
        if name in motion:
            pose = motion.pop(name)
            T = make_transform(rotvecs_to_matrices(pose[..., :3]), 0.1 * pose[..., 3:])
            motion[f"T_{name}"] = T
    return function(GaussianCloud(**cloud), **motion)


def reference(cloud, **motion):
    names = "displacement", "secondary_motion", "T_head", "T_body", "head_weights"
    return deform_reference(cloud, *(motion.get(name) for name in names))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "case",
    [
        dict(count=1003, batch=(3,), coefficients=1),
        dict(count=101, batch=(2, 2), shared=False),
        dict(count=32, coefficients=9),
        dict(count=40, batch=(2,), coefficients=16, angle=1.0),
        dict(count=5, batch=(1,), shared=False, angle=0.0),
        dict(count=33, motions=("body", "head_weights")),
        dict(count=33, batch=(2,), shared=False, motions=("head",)),
        dict(count=33, batch=(2,), motions=("displacement",)),
        dict(count=33, motions=("secondary_motion", "body", "head_weights")),
        dict(count=1, motions=("secondary_motion", "head")),
    ],
)  # fmt: skip
def test_values_and_all_gradients_are_those_of_the_reference(case, threads):
    given, results, before = example(**case), [], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for function, dtype in ((deform, torch.float32), (reference, torch.float64)):
            cloud, motion = (
                {name: leaf.to(dtype).requires_grad_() for name, leaf in leaves.items()}
                for leaves in given
            )
            fields = moved(cloud, motion, function).fields()
            g = torch.Generator().manual_seed(5)
            loss = sum((v * torch.randn(v.shape, generator=g)).sum() for v in fields.values())
            leaves = cloud | motion
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            results.append((fields, dict(zip(leaves, gradients))))
    finally:
        torch.set_num_threads(before)
    for kernels, plain in zip(*results):
        for name, value in plain.items():
            if value is None:
                assert kernels[name] is None or not kernels[name].any(), name
                continue
            size = float(value.detach().abs().max()) if value.numel() else 1.0
            assert kernels[name].dtype == torch.float32, name
            torch.testing.assert_close(
                kernels[name].double(), value, rtol=2e-5, atol=2e-5 * max(size, 1), msg=name
            )


@pytest.mark.parametrize("largest", range(4))
def test_frames_know_the_quaternions_of_any_rotation(largest):
    quats = torch.tensor([[0.2, -0.3, 0.1, -0.25], [-0.1, 0.2, 0.3, 0.2]])
    quats[:, largest] = torch.tensor([0.9, -0.8])
    rotations = quats_to_matrices(normalize_quats(quats))
    frames = torch.from_numpy(frames_of(make_transform(rotations, torch.ones(2, 3)).numpy()))
    assert torch.equal(frames[:, :12], torch.cat([rotations.flatten(1), torch.ones(2, 3)], 1))
    torch.testing.assert_close(frames[:, 12:], matrices_to_quats(rotations), rtol=0, atol=1e-6)


def test_a_body_that_leans_half_a_rotation_keeps_its_orientation_and_gradient():
    cloud, motion = example(20, motions=("body", "head_weights"))
    motion["body"] = torch.tensor([3.1, 0.2, 0.0, 0.0, 0.0, 0.0])
    gradients = []
    for function in (deform, reference):
        pose = motion["body"].clone().requires_grad_()
        quats = moved(cloud, motion | {"body": pose}, function).quats
        (quats.square() * torch.arange(4)).sum().backward()
        gradients.append(pose.grad)
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


def test_what_is_not_contiguous_is_the_same():
    cloud, motion = example(1001)
    wide = torch.cat([motion["head_weights"][:, None], cloud["sh"].flatten(1)], 1)
    strided = cloud | {"sh": wide[:, 1:].view(1001, 4, 3)}
    found = moved(strided, motion | {"head_weights": wide[:, 0]})
    for name, value in moved(cloud, motion).fields().items():
        assert torch.equal(found.fields()[name], value), name


def test_a_transform_of_the_head_alone_moves_rigidly_and_keeps_the_harmonics():
    cloud, motion = example(9, motions=("head",))
    T = make_transform(rotvecs_to_matrices(motion["head"][:3]), 0.1 * motion["head"][3:])
    result = moved(cloud, motion)
    expected = cloud["means"] @ T[:3, :3].T + T[:3, 3]
    torch.testing.assert_close(result.means, expected, atol=1e-6, rtol=1e-5)
    assert result.sh.equal(cloud["sh"]) and deform(result) is result


# Secondary motion


def points(count: int = 50) -> torch.Tensor:
    """Far outside of the face, float64."""
    g = torch.Generator().manual_seed(0)
    around = torch.randn(count, 3, generator=g, dtype=torch.float64)
    return 0.25 * torch.nn.functional.normalize(around, dim=-1)


def test_equal_offsets_move_everything_alike_at_every_depth():
    rest, offset = points(), torch.tensor([0.01, -0.02], dtype=torch.float64)
    found = lattice_offsets(rest, offset.expand(NUM_POINTS, 2))
    torch.testing.assert_close(found, torch.nn.functional.pad(offset, (0, 1)).expand_as(rest))
    assert not lattice_offsets(rest, rest.new_zeros(NUM_POINTS, 2)).any()


def test_a_control_point_moves_its_own_place_and_half_of_what_is_half_way():
    column, row = 2, 3
    offsets = torch.zeros(NUM_POINTS, 2, dtype=torch.float64)
    offsets[row * COLUMNS + column, 0] = 0.004
    spacing = (HIGH_M[0] - LOW_M[0]) / (COLUMNS - 1)
    place = torch.tensor([LOW_M[0] + column * spacing, LOW_M[1] + row * spacing, 0.1])
    beside = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [1.0, 0, 0]])
    found = lattice_offsets((place + spacing * beside).double(), offsets)[:, 0]
    expected = torch.tensor([0.004, 0.002, 0.001, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-5)


def test_the_face_stays_and_hair_beside_it_moves():
    offsets = torch.full((NUM_POINTS, 2), 0.01)
    lips, ear, collar = [0.0, -0.064, 0.026], [0.074, -0.02, -0.08], [0.0, -0.2, 0.0]
    for place, share in ((lips, 0.0), (ear, 1.0), (collar, 1.0)):
        found = lattice_offsets(torch.tensor([place]), offsets)[0]
        torch.testing.assert_close(found, share * torch.tensor([0.01, 0.01, 0.0]))


def test_gradients_of_the_lattice_match_finite_differences():
    g = torch.Generator().manual_seed(2)
    offsets = 0.01 * torch.randn(NUM_POINTS, 2, generator=g, dtype=torch.float64)
    leaves = points(6).requires_grad_(), offsets.requires_grad_()
    torch.autograd.gradcheck(lattice_offsets, leaves, eps=1e-7)


def test_a_state_without_secondary_motion_is_at_rest_in_its_batch_shape():
    poses = torch.eye(4).expand(4, 4, 4)
    state = HeadState(torch.zeros(4, 52), torch.zeros(4, 2, 4), poses, poses)
    assert state.secondary_motion.shape == (4, NUM_POINTS, 2) and not state.secondary_motion.any()
    assert state[1].secondary_motion.shape == (NUM_POINTS, 2)


# Displacement by the expression


def bound(count: int = 333) -> tuple[torch.Tensor, RigBinding]:
    """An expression and a binding to 40 vertices."""
    g = torch.Generator().manual_seed(0)
    shapes, weights = torch.randn(7, 40, 3, generator=g), torch.rand(count, 3, generator=g)
    vertices = torch.randint(40, (count, 3), generator=g)
    return torch.randn(7, generator=g), RigBinding(shapes, vertices, weights)


def test_gaussians_on_the_mesh_move_as_the_mesh_does():
    model = HEAD_MODELS["anny"]()
    g = torch.Generator().manual_seed(0)
    corners = model.faces[torch.randint(len(model.faces), (200,), generator=g)]
    barycentrics = torch.rand(200, 3, generator=g)
    barycentrics /= barycentrics.sum(-1, keepdim=True)
    shaped = model.shaped(model.neutral_identity())

    def on(vertices):
        return (vertices[corners] * barycentrics[..., None]).sum(1)

    state = model.neutral_state()
    state.expression[model.expression_names.index("jawOpen")] = 0.7
    state.expression[model.expression_names.index("mouthSmileLeft")] = 0.5
    rig = RigBinding(model.expression_basis, corners, barycentrics)
    found = displacement(state.expression, rig)
    expected = on(shaped.posed(state).vertices) - on(shaped.vertices)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.norm(dim=-1).max() > 0.01


def test_displacements_are_sums_over_corners_in_any_batch_and_precision():
    expression, rig = bound()
    found = displacement(expression, rig)
    expected = (expression @ shapes_of_gaussians(rig)).view(-1, 3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    several = displacement(torch.stack([expression, 2 * expression]).expand(3, 2, 7), rig)
    assert several.shape == (3, 2, 333, 3)
    torch.testing.assert_close(several[1, 1], 2 * found)
    double = RigBinding(rig.shapes.double(), rig.vertices, rig.weights.double())
    assert displacement(expression.double(), double).dtype == torch.float64


def test_gradients_of_displacements_reach_all_that_drives_them():
    expression, rig = bound(5)
    leaves = [t.requires_grad_() for t in (expression, rig.shapes, rig.weights)]
    gradients = torch.autograd.grad(displacement(expression, rig).square().sum(), leaves)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_vertices_that_the_rig_does_not_have_are_refused():
    expression, rig = bound(5)
    rig.vertices[3, 1] = 40
    with pytest.raises(RuntimeError):
        displacement(expression, rig)
