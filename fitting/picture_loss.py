"""What a rendering and a frame differ by, over one background: L1, 1 - SSIM, the matte's L1, and their weighted sum.

On the CPU value and gradient are made together by fused kernels (`picture_loss_torch` is their slow, obvious twin, and
the path on other devices).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from fitting import losses

TERMS = ("l1", "dssim", "matte")


@dataclasses.dataclass(frozen=True)
class PictureLoss:
    """total: the weighted sum, differentiable. terms: by the names of TERMS, unweighted, without gradient.
    squared_error: mean over pixels and channels, without gradient. truth: the frame over the background [H, W, 3].
    """

    total: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor
    truth: Tensor


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
    total, values, truth = _Fused.apply(rgb, alpha, colour, matte, background, factors)
    return PictureLoss(total, dict(zip(TERMS, values)), values[3], truth)


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
    return PictureLoss(total, {name: term.detach() for name, term in terms.items()}, squared_error, truth)


def compile_kernels() -> None:
    """Compiles the fused kernels for float32 (a few seconds once, then cached on the disk): call it before a fit."""
    rgba = torch.ones(12, 12, 4)
    rgb, alpha = torch.zeros(12, 12, 3, requires_grad=True), torch.zeros(12, 12, 1, requires_grad=True)
    picture_loss(rgb, alpha, rgba[..., :3], rgba[..., 3:], torch.ones(3), {"l1": 1.0}).total.backward()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, alpha, colour, matte, background, factors):
        from fitting import picture_kernels, ssim_kernels  # numba loads slowly: only when used

        height, width = alpha.shape[:2]
        flat_rgb = rgb.detach().contiguous().reshape(height, width * 3).numpy()
        flat_alpha = alpha.detach().contiguous().reshape(height, width).numpy()
        colour, flat_matte = colour.to(rgb.dtype).numpy(), matte.to(rgb.dtype)[..., 0].numpy()
        behind = torch.cat([background.to(rgb.dtype), rgb.new_ones(1)]).numpy()
        picture, truth = rgb.new_empty(height, width * 3).numpy(), rgb.new_empty(height, width, 3)
        flat_truth = truth.view(height, width * 3).numpy()
        absolute, squared, by_matte = picture_kernels.composite(
            flat_rgb, flat_alpha, colour, flat_matte, behind, picture, flat_truth
        )
        pixels, count = height * width, 3 * height * width
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        ssim, gradient = ssim_kernels.mean_ssim(
            picture[None], flat_truth[None], *losses.kernel_arguments(rgb.dtype, count), 0, wanted
        )
        values = torch.tensor([absolute / count, 1 - ssim, by_matte / pixels, squared / count], dtype=rgb.dtype)
        if wanted:
            l1, dssim, of_matte = factors
            weights = torch.tensor([-dssim, l1 / count, of_matte / pixels], dtype=rgb.dtype).numpy()
            g_rgb, g_alpha = gradient[0], rgb.new_empty(height, width)
            picture_kernels.differentiate(
                picture, flat_truth, flat_alpha, flat_matte, behind, weights, g_rgb, g_alpha.numpy()
            )
            ctx.save_for_backward(torch.from_numpy(g_rgb).view(rgb.shape), g_alpha.view(alpha.shape))
        ctx.mark_non_differentiable(values, truth)
        return (values[:3] * values.new_tensor(factors)).sum(), values, truth

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor, *_: Tensor):
        g_rgb, g_alpha = ctx.saved_tensors
        if float(upstream) != 1:
            g_rgb, g_alpha = g_rgb * upstream, g_alpha * upstream
        return g_rgb, g_alpha, None, None, None, None
