"""The kernels of tracking by the picture are their twins in plain PyTorch, values and gradients."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.deform.batched import posed, posed_torch, resting_frames, transforms
from likeness.preprocess.photometric.picture_error import picture_errors, picture_errors_torch
from likeness.scene.cloud import GaussianCloud
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.transforms import make_transform, rotvecs_to_matrices


def example(count, frames, size=0.1, seed=0):
    """A cloud around the head, and what moves it; corrections of about ``size``."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=g)

    leaves = {
        "means": some(count, 3, scale=0.15),
        "quats": some(count, 4),
        "weights": torch.rand(count, generator=g),
        "shift": some(frames, count, 3, scale=0.01),
        "corrections": some(frames, 12, scale=size),
        "sway": some(frames, NUM_POINTS, 2, scale=0.01),
    }
    T_head_body = make_transform(
        rotvecs_to_matrices(some(frames, 3, scale=0.3)), some(frames, 3, scale=0.1)
    )
    rest = torch.rand(count, 3, generator=g), torch.rand(count, generator=g), some(count, 1, 3)
    return leaves, rest, T_head_body


def move(function, leaves, rest, T_head_body):
    cloud = GaussianCloud(leaves["means"], leaves["quats"], *rest)
    motion = (
        leaves["weights"],
        leaves["shift"],
        leaves["corrections"],
        resting_frames(T_head_body),
        leaves["sway"],
    )
    return function(cloud, *motion)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count, size", [(1003, 0.1), (32, 1.0), (5, 1e-4), (40, 0.0)])
def test_posed_clouds_are_the_twins(count, size, threads):
    leaves, rest, T_head_body = example(count, 3, size)
    found, before = [], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for function in (posed, posed_torch):
            used = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
            cloud, g = move(function, used, rest, T_head_body), torch.Generator().manual_seed(5)
            results = [cloud.means, cloud.quats]
            loss = sum(
                (result * torch.randn(result.shape, generator=g)).sum() for result in results
            )
            found.append((results, torch.autograd.grad(loss, list(used.values())), cloud))
    finally:
        torch.set_num_threads(before)
    for kernels, plain in zip(found[0][:2], found[1][:2]):
        for a, b in zip(kernels, plain):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
    for name in ("scales", "opacities", "sh"):
        assert found[0][2].fields()[name].equal(found[1][2].fields()[name])


def test_double_precision_goes_the_plain_way():
    leaves, rest, T_head_body = example(7, 2)
    leaves, rest = (
        {name: leaf.double() for name, leaf in leaves.items()},
        [t.double() for t in rest],
    )
    assert move(posed, leaves, rest, T_head_body.double()).means.dtype == torch.float64


def test_a_body_that_leans_half_a_turn_keeps_its_orientation():
    """The unit quaternion of the product has w < 0: its sign is turned, and that of its
    gradient."""
    leaves, rest, _ = example(20, 1, 0.0)
    leaves["corrections"][0, 6] = 0.5
    T = make_transform(rotvecs_to_matrices(torch.tensor([[3.0, 0.0, 0.0]])), torch.zeros(1, 3))
    found = []
    for function in (posed, posed_torch):
        corrections = leaves["corrections"].clone().requires_grad_()
        cloud = move(function, leaves | {"corrections": corrections}, rest, T)
        (cloud.quats.square() * torch.arange(4)).sum().backward()
        found.append((cloud.quats.detach(), corrections.grad))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-3, rtol=1e-3)


def test_corrections_act_in_the_frames_they_correct():
    leaves, rest, T_head_body = example(9, 1, 0.2)
    leaves |= {
        "weights": torch.zeros(9),
        "shift": torch.zeros(1, 9, 3),
        "sway": torch.zeros(1, NUM_POINTS, 2),
    }
    cloud = move(posed, leaves, rest, T_head_body)
    T = (T_head_body @ transforms(leaves["corrections"][:, 6:]))[0]
    torch.testing.assert_close(
        cloud.means[0], leaves["means"] @ T[:3, :3].T + T[:3, 3], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_picture_errors_are_the_twins(weighted):
    g = torch.Generator().manual_seed(0)
    rgba = torch.randint(0, 256, (3, 9, 7, 4), generator=g, dtype=torch.uint8)
    rgba[:, :3] = 0
    rgb, alpha = torch.rand(3, 9, 7, 3, generator=g), torch.rand(3, 9, 7, 1, generator=g)
    rgb[:, :2], alpha[:, :2] = 0, 0  # nothing where nothing is: no error, no gradient
    background, weights = torch.rand(3, 3, generator=g), torch.rand(3, generator=g)
    found = []
    for function in (picture_errors, picture_errors_torch):
        leaves = rgb.clone().requires_grad_(), alpha.clone().requires_grad_()
        errors = function(*leaves, rgba, background, 0.3)
        loss = (errors * weights).sum() if weighted else errors.mean()
        found.append((errors, *torch.autograd.grad(loss, leaves)))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    assert not found[0][1][:, :2].any() and not found[0][2][:, :2].any()
