from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from likeness.ops import ssim


def _pair(*shape: int, seed: int = 0, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(*shape, generator=generator, dtype=torch.float64)
    noise = 0.2 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return image.to(dtype), (image + noise).clamp(0, 1).to(dtype)


@pytest.mark.parametrize("shape", [(24, 31, 3), (2, 17, 12, 3), (1, 11, 11, 3), (3, 7, 3)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_fused_ssim_equals_plain_pytorch(shape, dtype, tolerance):
    x, y = _pair(*shape, dtype=dtype)
    batch = (x, y) if x.ndim == 4 else (x[None], y[None])
    for valid in (False, True) if min(shape[-3:-1]) >= 11 else (False,):
        expected = ssim.ssim_reference(*batch, valid=valid)
        assert ssim.ssim(x, y, valid=valid).item() == pytest.approx(expected.item(), abs=tolerance)


@pytest.mark.parametrize("valid", [False, True])
def test_fused_gradient_equals_plain_pytorch(valid):
    x, y = _pair(2, 40, 53, 3, seed=1)
    x.requires_grad_()
    (3.5 * ssim.ssim(x, y, valid=valid)).backward()
    fused, x.grad = x.grad, None
    (3.5 * ssim.ssim_reference(x, y, valid=valid)).backward()
    # Guards against a right shape of wrong direction, wrong length and wrong mean, each alone.
    cosine = torch.nn.functional.cosine_similarity(fused.flatten(), x.grad.flatten(), dim=0)
    assert cosine.item() > 1 - 1e-6
    assert (fused.norm() / x.grad.norm()).item() == pytest.approx(1, abs=1e-5)
    assert (fused.mean() - x.grad.mean()).abs() < 1e-5 * x.grad.abs().mean()


@pytest.mark.parametrize("valid", [False, True])
def test_fused_gradient_against_finite_differences(valid):
    x, y = _pair(13, 12, 3, seed=2, dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda image: ssim.ssim(image, y, valid=valid), (x,), eps=1e-6, atol=1e-9
    )


def test_gradient_is_zero_for_equal_images_and_points_uphill():
    x, y = _pair(32, 32, 3, dtype=torch.float64)
    same = y.clone().requires_grad_()
    ssim.dssim(same, y).backward()
    assert same.grad.abs().max() < 1e-12
    x.requires_grad_()
    before = ssim.dssim(x, y)
    before.backward()
    after = ssim.dssim((x - 1e-2 * x.grad / x.grad.norm()).detach(), y)
    assert after < before


def test_valid_ssim_equals_scikit_image():
    x, y = _pair(64, 50, 3, seed=3)
    options = dict(
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    expected = structural_similarity(x.numpy(), y.numpy(), **options)
    assert ssim.ssim(x, y, valid=True).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("valid", [False, True])
def test_where_images_are_equal_nothing_is_lost(valid):
    """Most of a frame is background in both: only what differs, up to the reach of the windows, is
    computed."""
    x, y = _pair(61, 90, 3, seed=5, dtype=torch.float64)
    same = torch.ones(61, 90, 1, dtype=torch.bool)
    same[24:31, 40:47], same[45, 88] = False, False
    x = torch.where(same, y, x).requires_grad_()
    ssim.ssim(x, y, valid=valid).backward()
    fused, x.grad = x.grad, None
    expected = ssim.ssim_reference(x[None], y[None], valid=valid)
    expected.backward()
    assert ssim.ssim(x, y, valid=valid).item() == pytest.approx(expected.item(), abs=1e-14)
    torch.testing.assert_close(fused, x.grad, rtol=1e-9, atol=1e-17)
    assert fused[34:36, 50].any() and not fused[:14].any() and not fused[:34, :8].any()


def test_value_does_not_depend_on_memory_layout_or_threads():
    x, y = _pair(100, 48, 3, seed=4)
    y[:, 20:], y[30:50] = x[:, 20:], x[30:50]
    padded = torch.zeros(104, 60, 3)
    padded[2:102, 5:53] = x
    threads, found = torch.get_num_threads(), []
    try:
        for count, image in ((1, x), (2, x), (4, x), (1, padded[2:102, 5:53])):
            torch.set_num_threads(count)
            image = image.detach().requires_grad_()
            value = ssim.ssim(image, y)
            found.append((value.item(), *torch.autograd.grad(value, image)))
    finally:
        torch.set_num_threads(threads)
    for value, gradient in found[1:]:
        assert value == found[0][0] and torch.equal(gradient, found[0][1])


def test_batches_are_split_anywhere():
    x, y = _pair(3, 40, 20, 3, seed=6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)  # of which one band goes over a border between two pictures
        together = ssim.ssim(x, y).item()
    finally:
        torch.set_num_threads(threads)
    assert together == pytest.approx(
        sum(ssim.ssim(a, b).item() for a, b in zip(x, y)) / 3, abs=1e-6
    )


def test_other_channel_counts_and_dtypes_take_the_plain_path():
    x, y = _pair(20, 20, 1)
    assert ssim.ssim(x, y).item() == pytest.approx(ssim.ssim_reference(x[None], y[None]).item())


def test_l1_and_dssim_of_extremes():
    zeros, ones = torch.zeros(16, 16, 3), torch.ones(16, 16, 3)
    # float32: E[x²] - E[x]² against C2 = 9e-4
    assert ssim.dssim(ones, ones).item() == pytest.approx(0, abs=2e-5)
    assert ssim.dssim(zeros, ones).item() > 0.98


def test_wrong_use_is_named():
    x, y = _pair(16, 16, 3)
    with pytest.raises(ValueError, match="two images"):
        ssim.ssim(x, y[:8])
    with pytest.raises(ValueError, match="first image"):
        ssim.ssim(x, y.requires_grad_())
    with pytest.raises(ValueError, match="at least 11"):
        ssim.ssim(x[:8], y[:8].detach(), valid=True)


def test_window_is_the_usual_one():
    taps = ssim.window(torch.float64).numpy()
    assert taps.sum() == pytest.approx(1) and taps.shape == (11,)
    np.testing.assert_allclose(taps[5] / taps[4], np.exp(0.5 / 1.5**2))
