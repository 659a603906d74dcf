"""What a rendering and a frame differ by, over one background: L1, 1 - SSIM, the matte's L1, and their weighted sum.

On the CPU value and gradient are made together by fused kernels (`picture_loss_torch` is their slow, obvious twin, and
the path on other devices).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from fitting import losses

TERMS = ("l1", "dssim", "matte")


@dataclasses.dataclass(frozen=True)
class PictureLoss:
    """total: the weighted sum, differentiable. terms: by the names of TERMS, unweighted, without gradient.
    squared_error: mean over pixels and channels, without gradient.
    """

    total: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor


def picture_loss(
    rgb: Tensor, alpha: Tensor, colour: Tensor, matte: Tensor, background: Tensor, weights: dict[str, float]
) -> PictureLoss:
    """Compares a rendering with a frame, both over ``background`` [3]; differentiable in rgb and alpha.

    rgb: [H, W, 3] premultiplied by alpha [H, W, 1]. colour: [H, W, 3] straight, with matte [H, W, 1]. weights: by the
    names of TERMS.
    """
    if rgb.device.type != "cpu" or rgb.dtype not in (torch.float32, torch.float64):
        return picture_loss_torch(rgb, alpha, colour, matte, background, weights)
    factors = tuple(weights.get(name, 0.0) for name in TERMS)
    total, values = _Fused.apply(rgb, alpha, colour, matte, background, factors)
    return PictureLoss(total, dict(zip(TERMS, values)), values[3])


def picture_loss_torch(
    rgb: Tensor, alpha: Tensor, colour: Tensor, matte: Tensor, background: Tensor, weights: dict[str, float]
) -> PictureLoss:
    """``picture_loss`` in plain PyTorch operations, on any device."""
    truth = colour * matte + (1 - matte) * background
    picture = rgb + (1 - alpha) * background
    terms = {
        "l1": losses.l1(picture, truth), "dssim": losses.dssim(picture, truth), "matte": losses.l1(alpha, matte),
    }  # fmt: skip
    total = torch.stack([weights.get(name, 0.0) * term for name, term in terms.items()]).sum()
    squared_error = (picture.detach() - truth).square().mean()
    return PictureLoss(total, {name: term.detach() for name, term in terms.items()}, squared_error)


def compile_kernels() -> None:
    """Compiles the fused kernels for float32 (a few seconds once, then cached on the disk): call it before a fit."""
    rgba = torch.ones(12, 12, 4)
    rgb, alpha = torch.zeros(12, 12, 3, requires_grad=True), torch.zeros(12, 12, 1, requires_grad=True)
    picture_loss(rgb, alpha, rgba[..., :3], rgba[..., 3:], torch.ones(3), {"l1": 1.0}).total.backward()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, alpha, colour, matte, background, factors):
        from fitting import picture_kernels  # numba loads slowly: only when used

        height, width = alpha.shape[:2]
        pixels, count = height * width, 3 * height * width
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        rendering = _rows(rgb), _rows(alpha)
        frame = _rows(_joined(colour, matte, rgb.dtype))
        behind = torch.cat([background.to(rgb.dtype), rgb.new_ones(1)]).numpy()
        l1, dssim, of_matte = factors
        taps, constants = losses.kernel_arguments(rgb.dtype, count)
        weights = np.array([-dssim, l1 / count, of_matte / pixels], taps.dtype)
        rows = height if wanted else 0
        g_rgb, g_alpha = rgb.new_empty(rows, width, 3), rgb.new_empty(rows, width, 1)
        outputs = np.zeros((4, height)), _rows(g_rgb), _rows(g_alpha)
        arguments = taps, constants, weights, wanted, *outputs

        def band(first: int, last: int) -> None:
            picture_kernels.picture_band(*rendering, frame, behind, first, last, *arguments)

        losses.in_bands(band, height)
        absolute, squared, by_matte, ssim = outputs[0].sum(1)
        values = absolute / count, 1 - ssim, by_matte / pixels, squared / count
        total = rgb.new_tensor(sum(factor * value for factor, value in zip(factors, values)))
        values = rgb.new_tensor(values)
        if wanted:
            ctx.save_for_backward(g_rgb, g_alpha)
        ctx.mark_non_differentiable(values)
        return total, values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor, *_: Tensor):
        g_rgb, g_alpha = ctx.saved_tensors
        if float(upstream) != 1:
            g_rgb, g_alpha = g_rgb * upstream, g_alpha * upstream
        return g_rgb, g_alpha, None, None, None, None


def _rows(picture: Tensor) -> np.ndarray:
    """[H, W, C] as [H, W * C], contiguous."""
    return picture.detach().contiguous().view(picture.shape[0], picture.shape[1] * picture.shape[2]).numpy()


def _joined(colour: Tensor, matte: Tensor, dtype: torch.dtype) -> Tensor:
    """Colour and matte as one picture [H, W, 4]: without a copy where they are parts of one, as frames come."""
    height, width = matte.shape[:2]
    strides = (4 * width, 4, 1)
    beside = colour.data_ptr() + 3 * colour.element_size() == matte.data_ptr()
    if beside and colour.dtype == matte.dtype == dtype and colour.stride() == strides == matte.stride():
        return colour.as_strided((height, width, 4), strides)
    return torch.cat([colour.to(dtype), matte.to(dtype)], -1)
