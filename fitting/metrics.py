"""Image metrics of reports: images [H, W, C] in [0, 1], Python floats out, computed in float64.

PSNR and SSIM equal scikit-image's ``peak_signal_noise_ratio(data_range=1)`` and
``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
channel_axis=2)``. LPIPS is in likeness.fitting.perceptual.
"""

from __future__ import annotations

import math

from torch import Tensor

from likeness.ops.ssim import WINDOW_RADIUS
from likeness.ops.ssim import ssim as mean_ssim


def l1(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Mean absolute difference, over ``mask`` [H, W] (bool) if given; NaN over an empty one."""
    return _mean((_double(image) - _double(target)).abs(), mask)


def mse(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Mean squared difference, over ``mask`` [H, W] (bool) if given; NaN over an empty one."""
    return _mean((_double(image) - _double(target)).square(), mask)


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images, NaN over an empty mask."""
    return psnr_from_mse(mse(image, target, mask))


def psnr_from_mse(value: float) -> float:
    """The PSNR in dB of a mean squared difference of values in [0, 1]."""
    return math.inf if value == 0 else -10 * math.log10(value) if value > 0 else math.nan


def ssim(image: Tensor, target: Tensor) -> float:
    """Mean structural similarity over the windows inside the image; NaN if it is smaller than the
    window (11)."""
    if min(image.shape[0], image.shape[1]) <= 2 * WINDOW_RADIUS:
        return math.nan
    return float(mean_ssim(_double(image), _double(target), valid=True))


def _double(image: Tensor) -> Tensor:
    return image.detach().to("cpu").double()


def _mean(values: Tensor, mask: Tensor | None) -> float:
    return float(values.mean() if mask is None else values[mask.to(values.device)].mean())
