"""What renderings and their frames differ by, over a background: mean L1 of the colours and of the
mattes."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.ops.threads import run_rows, suit_kernels


def image_errors(
    rgb: Tensor, alpha: Tensor, rgba: Tensor, background: Tensor, matte_weight: float
) -> Tensor:
    """[B] mean |colour difference| + ``matte_weight`` mean |matte difference| of each image.

    rgb: [B, H, W, 3] premultiplied by alpha [B, H, W, 1], differentiable. rgba: [B, H, W, 4] uint8,
        straight.
    background: [B, 3], of each image.
    """
    if not suit_kernels(rgb):
        return image_errors_reference(rgb, alpha, rgba, background, matte_weight)
    return _Error.apply(rgb, alpha, rgba, background, matte_weight)


def image_errors_reference(
    rgb: Tensor, alpha: Tensor, rgba: Tensor, background: Tensor, matte_weight: float
) -> Tensor:
    """``image_errors`` in plain PyTorch operations, on any device."""
    pixels = rgba.to(rgb.dtype) / 255
    colour, matte = pixels[..., :3], pixels[..., 3:]
    behind = background[:, None, None]
    difference = rgb + (1 - alpha) * behind - (colour * matte + (1 - matte) * behind)
    return difference.abs().mean((1, 2, 3)) + matte_weight * (alpha - matte).abs().mean((1, 2, 3))


class _Error(torch.autograd.Function):
    """Value and gradient in one sweep, made together; images are shared out."""

    @staticmethod
    def forward(
        ctx, rgb: Tensor, alpha: Tensor, rgba: Tensor, background: Tensor, matte_weight: float
    ) -> Tensor:
        # numba loads slowly: only when used
        from likeness.preprocess.photometric import image_error_cpu

        batch, height, width, _ = rgb.shape
        pixels = height * width
        images = rgb.detach().contiguous().numpy(), alpha.detach().contiguous().numpy()
        frames, behind = rgba.contiguous().numpy(), background.contiguous().numpy()
        g_rgb, g_alpha, sums = torch.empty(rgb.shape), torch.empty(alpha.shape), torch.empty(batch)
        gradients = g_rgb.numpy(), g_alpha.numpy()
        weights = 1 / (3 * pixels), matte_weight / pixels
        # of the gradients as they are kept: for the mean of the batch they are used as they are
        ctx.scale = 1 / batch

        def rows(first: int, last: int) -> None:
            image_error_cpu.compare(
                first, last, images, frames, behind, weights, ctx.scale, sums.numpy(), gradients
            )

        run_rows(rows, batch)
        ctx.save_for_backward(g_rgb, g_alpha)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        g_rgb, g_alpha = ctx.saved_tensors
        if (upstream != ctx.scale).any():
            factors = (upstream / ctx.scale)[:, None, None, None]
            g_rgb, g_alpha = g_rgb * factors, g_alpha * factors
        return g_rgb, g_alpha, None, None, None
