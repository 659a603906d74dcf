"""Rotations against matrices, and against finite differences where they are differentiable."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.unit_quaternions import unit_quats
from likeness.scene.transforms import (
    conjugate_quats,
    invert_transform,
    make_transform,
    matrices_to_quats,
    matrices_to_rotvecs,
    mean_transform,
    multiply_quats,
    normalize_quats,
    quats_to_matrices,
    quats_to_rotvecs,
    rotation_angles,
    rotvecs_to_matrices,
    rotvecs_to_quats,
    transform_points,
)

D = torch.float64


def quats(count=200):
    return normalize_quats(torch.randn(count, 4, dtype=D))


def test_the_product_of_quaternions_is_the_product_of_matrices():
    a, b = quats(), quats()
    torch.testing.assert_close(
        quats_to_matrices(multiply_quats(a, b)), quats_to_matrices(a) @ quats_to_matrices(b)
    )
    identity = multiply_quats(a, conjugate_quats(a))
    torch.testing.assert_close(identity, torch.tensor([1.0, 0, 0, 0], dtype=D).expand_as(identity))


def test_conversions_are_inverse_also_at_half_turns():
    half_turns = torch.eye(4, dtype=D)[1:]  # w = 0
    q = torch.cat([quats(), half_turns])
    torch.testing.assert_close(
        quats_to_matrices(matrices_to_quats(quats_to_matrices(q))), quats_to_matrices(q)
    )
    rotvecs = torch.randn(100, 3, dtype=D) * torch.logspace(-9, 0, 100, dtype=D)[:, None]
    torch.testing.assert_close(
        quats_to_rotvecs(rotvecs_to_quats(rotvecs)), rotvecs, atol=1e-12, rtol=1e-6
    )


def test_rotation_vectors_are_the_matrix_exponential():
    rotvecs = torch.randn(20, 3, dtype=D)
    x, y, z = rotvecs.unbind(-1)
    zero = torch.zeros_like(x)
    generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    torch.testing.assert_close(rotvecs_to_matrices(rotvecs), torch.linalg.matrix_exp(generator))
    torch.testing.assert_close(
        rotation_angles(rotvecs_to_matrices(rotvecs * 0.3)),
        rotvecs.norm(dim=-1) * 0.3,
        atol=1e-9,
        rtol=1e-9,
    )


def test_gradients_are_right_also_at_the_identity():
    for start in (torch.zeros(3, dtype=D), torch.tensor([0.3, -0.2, 0.5], dtype=D)):
        start.requires_grad_()
        assert torch.autograd.gradcheck(rotvecs_to_matrices, (start,), atol=1e-6)
    near_identity = rotvecs_to_matrices(torch.tensor([1e-5, 0, 0], dtype=D)).requires_grad_()
    assert torch.isfinite(
        torch.autograd.grad(matrices_to_rotvecs(near_identity).sum(), near_identity)[0]
    ).all()


def test_rigid_transforms_invert_and_compose():
    T = make_transform(quats_to_matrices(quats(5)), torch.randn(5, 3, dtype=D))
    points = torch.randn(5, 7, 3, dtype=D)
    torch.testing.assert_close(
        transform_points(invert_transform(T), transform_points(T, points)), points
    )


def test_the_mean_of_poses_around_one_is_that_one():
    T = make_transform(quats_to_matrices(quats(1))[0], torch.tensor([0.1, 0.2, 0.9], dtype=D))
    wiggles = torch.cat([torch.eye(3, dtype=D), -torch.eye(3, dtype=D)]) * 0.2
    poses = T @ make_transform(rotvecs_to_matrices(wiggles), wiggles)
    torch.testing.assert_close(mean_transform(poses), T, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_quats_of_gaussians_are_normalised_ones_values_and_gradients(dtype):
    g = torch.Generator().manual_seed(4)
    wide = torch.randn(50, 5, generator=g, dtype=dtype).requires_grad_()
    upstream, found = torch.randn(50, 4, generator=g, dtype=dtype), []
    for function in (unit_quats, normalize_quats):
        units = function(wide[:, 1:])
        found.append((units, *torch.autograd.grad((units * upstream).sum(), wide)))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)
    assert not unit_quats(torch.zeros(2, 4, dtype=dtype)).any()
