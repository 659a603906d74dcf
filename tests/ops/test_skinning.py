"""Clouds between two frames: the kernels are their twin in plain PyTorch, values and gradients."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.blend import blend, blend_by_code
from likeness.ops.deform.skinning import blend_two_frames, blend_two_frames_torch, frame_rows
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import (
    make_transform,
    matrices_to_quats,
    normalize_quats,
    quats_to_matrices,
    rotvecs_to_matrices,
)


def example(coefficients: int, count: int = 33, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    shapes = (count, 3), (count, 4), (count, 3), (count,), (count, coefficients, 3)
    leaves = [torch.randn(shape, generator=g).requires_grad_() for shape in shapes]
    transforms = [
        make_transform(
            rotvecs_to_matrices(0.7 * torch.randn(3, generator=g)), torch.randn(3, generator=g)
        )
        for _ in range(2)
    ]
    return GaussianCloud(*leaves), *transforms, torch.rand(count, generator=g).requires_grad_()


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_values_and_gradients_are_the_twins(coefficients):
    cloud, T_head, T_body, weights = example(coefficients)
    leaves = [cloud.means, cloud.quats, cloud.sh, weights]
    found = []
    for function in (blend_two_frames, blend_two_frames_torch):
        moved, g = function(cloud, T_head, T_body, weights), torch.Generator().manual_seed(5)
        results = [moved.means, moved.quats, moved.sh]
        loss = sum((result * torch.randn(result.shape, generator=g)).sum() for result in results)
        found.append((results, torch.autograd.grad(loss, leaves)))
    for fused, plain in zip(found[0], found[1]):
        for a, b in zip(fused, plain):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", range(4))
def test_frames_know_the_quaternions_of_any_rotation(largest):
    quats = torch.tensor([[0.2, -0.3, 0.1, -0.25], [-0.1, 0.2, 0.3, 0.2]])
    quats[:, largest] = torch.tensor([0.9, -0.8])
    T = torch.eye(4).repeat(2, 1, 1)
    T[:, :3, :3] = quats_to_matrices(normalize_quats(quats))
    rows = frame_rows(*T)
    assert torch.equal(rows[:, :9], T[:, :3, :3].flatten(1))
    torch.testing.assert_close(rows[:, 12:], matrices_to_quats(T[:, :3, :3]), rtol=0, atol=1e-6)


def test_gradients_still_reach_the_transforms():
    cloud, T_head, T_body, weights = example(4)
    T_head.requires_grad_()
    blend_two_frames(cloud, T_head, T_body, weights).means.sum().backward()
    assert T_head.grad.abs().max() > 0


def test_what_is_not_contiguous_or_shared_by_threads_is_the_same():
    cloud, T_head, T_body, weights = example(4, 1001)
    wide = torch.cat([weights.detach()[:, None], cloud.sh.detach().flatten(1)], 1)
    strided = GaussianCloud(
        cloud.means, cloud.quats, cloud.scales, cloud.opacities, wide[:, 1:].view(1001, 4, 3)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        moved = blend_two_frames(strided, T_head, T_body, wide[:, 0])
    finally:
        torch.set_num_threads(before)
    expected = blend_two_frames(cloud, T_head, T_body, weights)
    for name, value in moved.fields().items():
        assert torch.equal(value, expected.fields()[name]), name


@pytest.mark.parametrize("count, codes, size", [(1, 1, 1), (50, 52, 32), (7, 3, 5), (0, 4, 4)])
def test_blends_are_matrix_products(count, codes, size):
    g = torch.Generator().manual_seed(count)
    basis, e = torch.randn(count, codes, size, generator=g), torch.randn(codes, generator=g)
    torch.testing.assert_close(blend(basis, e), torch.matmul(e, basis), rtol=1e-5, atol=1e-5)
    assert blend(basis.double(), e.double()).dtype == torch.float64


@pytest.mark.parametrize("codes", [1, 4, 11])
def test_blends_by_code_skip_what_is_zero(codes):
    g = torch.Generator().manual_seed(codes)
    table, e = torch.randn(codes, 9001, generator=g), torch.randn(codes, generator=g)
    e[1::3] = 0
    torch.testing.assert_close(blend_by_code(table, e), e @ table, rtol=1e-5, atol=1e-5)
    assert not blend_by_code(table, torch.zeros(codes)).any()
