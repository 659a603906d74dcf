"""Image metrics of reports: images [H, W, C] in [0, 1], Python floats out, computed in float64.

PSNR and SSIM equal scikit-image's ``peak_signal_noise_ratio(data_range=1)`` and
``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
channel_axis=2)``. LPIPS is in likeness.fitting.perceptual, FLIP in likeness.fitting.flip.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from likeness.ops.ssim import WINDOW_RADIUS, ssim_parts
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


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity [H, W] of the window around each pixel, mean over channels; NaN where
    the window reaches over the border. Its mean over the others is ``ssim``; in float32, which is
    ten times as fast."""
    r = WINDOW_RADIUS
    result = torch.full(image.shape[:2], math.nan)
    if min(image.shape[0], image.shape[1]) > 2 * r:
        luminance, structure = ssim_parts(_single(image), _single(target), valid=True)
        result[r:-r, r:-r] = (luminance * structure)[0].mean(0)
    return result


# of the scales from fine to coarse, Wang et al. 2003
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(image: Tensor, target: Tensor) -> float:
    """Structural similarity over five scales (Wang, Simoncelli and Bovik, "Multi-scale structural
    similarity for image quality assessment", 2003), windows inside the image; NaN below 176 pixels
    a side. In float32."""
    x, y = _single(image), _single(target)
    scales = len(_SCALE_WEIGHTS)
    if min(x.shape[1:3]) >> (scales - 1) <= 2 * WINDOW_RADIUS:
        return math.nan
    product = torch.ones(())
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        luminance, structure = ssim_parts(x, y, valid=True)
        if scale == scales - 1:
            structure = luminance * structure
        # per channel; what is below 0 has no root
        product = product * structure.mean((2, 3)).clamp_min(0) ** weight
        x, y = (_halved(values) for values in (x, y))
    return float(product.mean())


def _halved(images: Tensor) -> Tensor:
    """[B, H, W, C] at half the resolution."""
    return torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 2).movedim(1, -1)


def _single(image: Tensor) -> Tensor:
    return image.detach().to("cpu").float()[None]


def _double(image: Tensor) -> Tensor:
    return image.detach().to("cpu").double()


def _mean(values: Tensor, mask: Tensor | None) -> float:
    return float(values.mean() if mask is None else values[mask.to(values.device)].mean())
