"""The fused losses are their twin in plain PyTorch, values and gradients."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.image_loss import TERMS, image_loss, image_loss_reference

WEIGHTS = {"l1": 0.7, "dssim": 0.3, "matte": 0.4}


def inputs(seed: int, dtype=torch.float64, height: int = 21, width: int = 34):
    generator = torch.Generator().manual_seed(seed)
    rgb, alpha, colour, matte = (
        torch.rand(height, width, c, generator=generator, dtype=dtype) for c in (3, 1, 3, 1)
    )
    rgba = torch.cat([colour, matte], -1)  # as a store of frames gives them: parts of one picture
    leaves = (rgb * alpha).requires_grad_(), alpha.requires_grad_()
    return *leaves, rgba[..., :3], rgba[..., 3:], torch.rand(3, generator=generator)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [WEIGHTS, {"l1": 1.0}, {"dssim": 1.0}, {"matte": 1.0}])
def test_values_and_gradients_are_the_twins(seed, weights):
    *tensors, background = inputs(seed)
    found = [f(*tensors, background, weights) for f in (image_loss, image_loss_reference)]
    gradients = []
    for result in found:
        gradients.append(
            torch.autograd.grad(
                3 * result.total, tensors[:2], allow_unused=True, materialize_grads=True
            )
        )
    torch.testing.assert_close(found[0].total, found[1].total, rtol=1e-12, atol=0)
    for name in TERMS:
        torch.testing.assert_close(found[0].terms[name], found[1].terms[name], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[0].squared_error, found[1].squared_error, rtol=1e-12, atol=0)
    for fused, plain in zip(*gradients):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-14)


def test_in_single_precision_it_stays_close():
    *tensors, background = inputs(1, torch.float32, 96, 80)
    results = [f(*tensors, background, WEIGHTS) for f in (image_loss, image_loss_reference)]
    torch.testing.assert_close(results[0].total, results[1].total, rtol=1e-5, atol=0)
    first, second = (torch.autograd.grad(result.total, tensors[0])[0] for result in results)
    assert (first - second).norm() < 1e-4 * second.norm()


def test_where_both_agree_l1_has_no_gradient():
    rgb, alpha, *_ = inputs(2)
    result = image_loss(
        rgb,
        alpha,
        (rgb / alpha).detach(),
        alpha.detach(),
        torch.zeros(3),
        {"matte": 1.0, "l1": 0.0},
    )
    result.total.backward()
    assert result.total == 0 and not alpha.grad.any() and not rgb.grad.any()


def test_what_is_not_a_number_is_not_hidden():
    *tensors, background = inputs(3)
    with torch.no_grad():
        tensors[0][5, 6, 1] = float("nan")
    assert image_loss(*tensors, background, WEIGHTS).total.isnan()


def test_nothing_is_differentiated_in_vain():
    rgb, alpha, colour, matte, background = inputs(4)
    result = image_loss(rgb.detach(), alpha.detach(), colour, matte, background, WEIGHTS)
    assert not result.total.requires_grad and result.total > 0


def test_threads_and_storage_change_nothing():
    rgb, alpha, colour, matte, background = inputs(5, torch.float32, 100, 30)
    threads, found = torch.get_num_threads(), []
    try:
        for count, frame in (
            (1, (colour, matte)),
            (4, (colour, matte)),
            (2, (colour.clone(), matte.clone())),
        ):
            torch.set_num_threads(count)
            result = image_loss(rgb, alpha, *frame, background, WEIGHTS)
            found.append((result.total.detach(), *torch.autograd.grad(result.total, (rgb, alpha))))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_a_head_before_its_background_is_the_twins():
    """Where nothing is drawn and the matte is 0 both pictures are the background."""
    rgb, alpha, colour, matte, background = inputs(6, torch.float64, 60, 70)
    inside = torch.zeros(60, 70, 1, dtype=torch.float64)
    inside[20:45, 30:52] = 1
    leaves = [(values * inside).detach().requires_grad_() for values in (rgb, alpha)]
    tensors = *leaves, colour, matte * inside
    results = [f(*tensors, background, WEIGHTS) for f in (image_loss, image_loss_reference)]
    torch.testing.assert_close(results[0].total, results[1].total, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(result.total, leaves) for result in results]
    for fused, plain in zip(*gradients):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("loss", [image_loss, image_loss_reference])
def test_a_batch_is_the_mean_of_its_pictures(loss):
    threads = torch.get_num_threads()
    single = [inputs(seed, height=40) for seed in range(3)]
    rgb, alpha, colour, matte, backgrounds = (torch.stack(part) for part in zip(*single))
    frames = torch.cat([colour, matte], -1)
    try:
        torch.set_num_threads(2)  # shares that end inside pictures
        found = loss(rgb, alpha, frames[..., :3], frames[..., 3:], backgrounds, WEIGHTS)
    finally:
        torch.set_num_threads(threads)
    expected = [loss(*tensors, WEIGHTS) for tensors in single]
    torch.testing.assert_close(
        found.total, sum(one.total for one in expected) / 3, rtol=1e-12, atol=0
    )
    for name in TERMS:
        torch.testing.assert_close(found.terms[name], sum(one.terms[name] for one in expected) / 3)
    torch.testing.assert_close(found.squared_error, sum(one.squared_error for one in expected) / 3)
    leaves = [tensors[:2] for tensors in single]
    for number, gradients in enumerate(zip(*torch.autograd.grad(found.total, (rgb, alpha)))):
        for one, other in zip(
            gradients, torch.autograd.grad(expected[number].total / 3, leaves[number])
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)
