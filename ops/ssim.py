"""Structural similarity (SSIM) of images [H, W, C] or [B, H, W, C] in [0, 1], as a scalar mean.

Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004), with
the usual 11x11 Gaussian window of sigma 1.5 and population statistics. On the CPU one kernel
(``likeness.ops.ssim_cpu``) gives value and gradient together; ``ssim_reference`` serves other
devices, and on CUDA an installed package may give it in fits (``likeness.ops.ssim_cuda``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.ops import ssim_cuda
from likeness.ops.threads import run_rows

WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
_MIN_BAND = 24  # rows: a band has to make up to 10 rows of statistics more than its own


def dssim(image: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM over all pixels, the window padded with zeros at the image border, as 3D Gaussian
    splatting does."""
    return 1 - ssim(image, target)


def ssim(image: Tensor, target: Tensor, *, valid: bool = False) -> Tensor:
    """Mean structural similarity, differentiable with respect to ``image`` only.

    valid: average only the windows that lie inside the image (what scikit-image reports); otherwise
        windows reach over the border, where the image counts as zero.
    Raises ValueError on differing shapes, on images smaller than the window (valid), or a target
    that needs gradients.
    """
    if image.shape != target.shape or image.ndim not in (3, 4):
        raise ValueError(
            f"ssim: expected two images [H, W, C] or [B, H, W, C], got {_shapes(image, target)}"
        )
    if target.requires_grad:
        raise ValueError("ssim: the gradient is with respect to the first image only; swap the two")
    if image.ndim == 3:
        image, target = image[None], target[None]
    if valid and min(image.shape[1:3]) <= 2 * WINDOW_RADIUS:
        raise ValueError(
            f"ssim: images of at least {2 * WINDOW_RADIUS + 1} pixels a side, got {_shapes(image)}"
        )
    target = target.to(image.dtype)
    if (
        image.device.type == "cpu"
        and image.shape[-1] == 3
        and image.dtype in (torch.float32, torch.float64)
    ):
        return _Ssim.apply(image, target, valid)
    if image.requires_grad and not valid and image.dtype == torch.float32:
        chosen = choose_package(image.device)
        if chosen is not None and chosen.function is not None:
            return chosen.function(image, target)
    return ssim_reference(image, target, valid=valid)


def choose_package(device: torch.device | str) -> ssim_cuda.Choice | None:
    """What computes SSIM in fits on a device; None where there is nothing to choose from. The same
    for all of a kind: what is found out of "cuda" holds for "cuda:0"."""
    kind = torch.device(device).type
    return ssim_cuda.choose(kind, ssim_reference) if kind == "cuda" else None


def ssim_reference(image: Tensor, target: Tensor, *, valid: bool = False) -> Tensor:
    """`ssim` of batches [B, H, W, C] in plain PyTorch operations, on any device."""
    luminance, structure = ssim_parts(image, target, valid=valid)
    return (luminance * structure).mean()


def ssim_parts(image: Tensor, target: Tensor, *, valid: bool = False) -> tuple[Tensor, Tensor]:
    """Luminance and structure [B, C, H', W'] of the windows in two batches [B, H, W, C], whose
    product is SSIM: one window a pixel, or ``valid`` ones alone, 10 fewer a side."""
    x, y = image.movedim(-1, 1), target.movedim(-1, 1)
    channels = x.shape[1]
    taps = window(x.dtype, x.device)
    padding = 0 if valid else WINDOW_RADIUS

    def blur(values: Tensor) -> Tensor:
        rows = taps.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1)
        values = torch.nn.functional.conv2d(values, rows, padding=(padding, 0), groups=channels)
        return torch.nn.functional.conv2d(values, rows.mT, padding=(0, padding), groups=channels)

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return luminance, structure


@lru_cache(maxsize=16)
def window(dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """The 11 taps of the separable Gaussian window, summing to 1; copied to a GPU once. Not to be
    changed."""
    weights = [
        math.exp(-0.5 * (k / WINDOW_SIGMA) ** 2) for k in range(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    ]
    with torch.inference_mode(False):  # whoever asks next may want gradients
        return torch.tensor(weights, dtype=torch.float64).div(sum(weights)).to(device, dtype)


@lru_cache(maxsize=16)
def kernel_arguments(dtype: torch.dtype, count: int) -> tuple:
    """Half of the window and the constants of ``ssim_cpu.ssim_band``, for so many values."""
    constants = torch.tensor([C1, C2, 2, 1 / count], dtype=dtype)
    return window(dtype)[WINDOW_RADIUS:].numpy(), constants.numpy()


def in_bands(function: Callable[[int, int, int], None], images: int, rows: int) -> None:
    """Calls ``function(image, first, last)`` side by side for bands that cover all rows of so
    many images."""

    def bands(first: int, last: int) -> None:
        for b in range(first // rows, -(-last // rows)):
            function(b, max(first - b * rows, 0), min(last - b * rows, rows))

    run_rows(bands, images * rows, _MIN_BAND)


class _Ssim(torch.autograd.Function):
    """Mean SSIM; the gradient is made along with the value, since the gradient of a mean needs no
    upstream pixels."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, valid: bool) -> Tensor:
        batch, height, width, channels = image.shape
        x = image.detach().reshape(batch, height, width * channels).contiguous().numpy()
        y = target.detach().reshape(batch, height, width * channels).contiguous().numpy()
        margin = WINDOW_RADIUS if valid else 0
        count = batch * (height - 2 * margin) * (width - 2 * margin) * channels
        wanted, sums = ctx.needs_input_grad[0], np.zeros((batch, height))
        gradient = np.empty_like(x) if wanted else [None] * batch
        arguments = *kernel_arguments(image.dtype, count), margin

        from likeness.ops import ssim_cpu  # numba loads slowly: only when used

        def band(b: int, first: int, last: int) -> None:
            ssim_cpu.ssim_band(x[b], y[b], first, last, *arguments, sums[b], gradient[b])

        in_bands(band, batch, height)
        if wanted:
            ctx.save_for_backward(torch.from_numpy(gradient).reshape(image.shape))
        return image.new_tensor(sums.sum())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> Any:
        upstream = grad_outputs[0]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None


def _shapes(*images: Tensor) -> str:
    return " and ".join(str(list(image.shape)) for image in images)
