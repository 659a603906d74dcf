"""What a rendering and a frame differ by, over one background: L1, 1 - SSIM, the matte's L1, and
their weighted sum.

On the CPU one kernel (``likeness.ops.image_loss_cpu``) gives value and gradient together;
``image_loss_reference`` serves other devices.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.ops import ssim

TERMS = ("l1", "dssim", "matte")


@dataclasses.dataclass(frozen=True)
class ImageLoss:
    """total: the weighted sum, differentiable. terms: by the names of TERMS, unweighted, without
    gradient.
    squared_error: mean over pixels and channels, without gradient.
    """

    total: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor


def image_loss(
    rgb: Tensor,
    alpha: Tensor,
    colour: Tensor,
    matte: Tensor,
    background: Tensor,
    weights: dict[str, float],
) -> ImageLoss:
    """Compares renderings with frames, both over ``background`` [*b, 3]; differentiable in rgb and
    alpha.

    rgb: [*b, H, W, 3] premultiplied by alpha [*b, H, W, 1]. colour: [*b, H, W, 3] straight, with
    matte [*b, H, W, 1]. All values are means over the images of the batch. weights: by the names
    of TERMS.
    """
    if rgb.device.type != "cpu" or rgb.dtype not in (torch.float32, torch.float64):
        return image_loss_reference(rgb, alpha, colour, matte, background, weights)
    factors = tuple(weights.get(name, 0.0) for name in TERMS)
    total, values = _Fused.apply(rgb, alpha, colour, matte, background, factors)
    return ImageLoss(total, dict(zip(TERMS, values)), values[3])


def image_loss_reference(
    rgb: Tensor,
    alpha: Tensor,
    colour: Tensor,
    matte: Tensor,
    background: Tensor,
    weights: dict[str, float],
) -> ImageLoss:
    """``image_loss`` in plain PyTorch operations, on any device."""
    background = background[..., None, None, :]
    truth = colour * matte + (1 - matte) * background
    image = rgb + (1 - alpha) * background
    truth, image = (values.reshape(-1, *values.shape[-3:]) for values in (truth, image))
    terms = {
        "l1": torch.nn.functional.l1_loss(image, truth),
        "dssim": ssim.dssim(image, truth),
        "matte": torch.nn.functional.l1_loss(alpha, matte),
    }
    total = torch.stack([weights.get(name, 0.0) * term for name, term in terms.items()]).sum()
    squared_error = (image.detach() - truth).square().mean()
    return ImageLoss(total, {name: term.detach() for name, term in terms.items()}, squared_error)


def compile_kernels() -> None:
    """Compiles the fused kernels for float32 (a few seconds once, then cached on the disk): call it
    before a fit."""
    rgba = torch.ones(12, 12, 4)
    rgb, alpha = (
        torch.zeros(12, 12, 3, requires_grad=True),
        torch.zeros(12, 12, 1, requires_grad=True),
    )
    image_loss(
        rgb, alpha, rgba[..., :3], rgba[..., 3:], torch.ones(3), {"l1": 1.0}
    ).total.backward()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rgb: Tensor,
        alpha: Tensor,
        colour: Tensor,
        matte: Tensor,
        background: Tensor,
        factors: tuple[float, float, float],
    ) -> Any:
        from likeness.ops import image_loss_cpu  # numba loads slowly: only when used

        height, width = alpha.shape[-3:-1]
        images = math.prod(alpha.shape[:-3])
        pixels, count = images * height * width, 3 * images * height * width
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        inputs = _rows(rgb), _rows(alpha), _rows(_joined(colour, matte, rgb.dtype))
        behind = background.to(rgb.dtype).expand(*alpha.shape[:-3], 3).reshape(-1, 3)
        behind = torch.cat([behind, behind.new_ones(images, 1)], 1).numpy()
        l1, dssim, of_matte = factors
        taps, constants = ssim.kernel_arguments(rgb.dtype, count)
        weights = np.array([-dssim, l1 / count, of_matte / pixels], taps.dtype)
        empty = (0,) * alpha.ndim
        g_rgb, g_alpha = (
            rgb.new_empty(tensor.shape if wanted else empty) for tensor in (rgb, alpha)
        )
        gradients = [
            _rows(g) if wanted else np.empty((images, 0, 0), taps.dtype) for g in (g_rgb, g_alpha)
        ]
        sums = np.zeros((images, 4, height))

        def band(b: int, first: int, last: int) -> None:
            own = image_loss_cpu.Composited(*(array[b] for array in (*inputs, behind)))
            by = gradients[0][b], gradients[1][b]
            image_loss_cpu.image_band(
                first, last, own, (taps, constants), weights, wanted, sums[b], by
            )

        ssim.in_bands(band, images, height)
        absolute, squared, by_matte, similarity = sums.sum(2).sum(0)
        values = absolute / count, 1 - similarity, by_matte / pixels, squared / count
        total = rgb.new_tensor(sum(factor * value for factor, value in zip(factors, values)))
        values = rgb.new_tensor(values)
        if wanted:
            ctx.save_for_backward(g_rgb, g_alpha)
        ctx.mark_non_differentiable(values)
        return total, values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> Any:
        upstream = grad_outputs[0]
        g_rgb, g_alpha = ctx.saved_tensors
        if float(upstream) != 1:
            g_rgb, g_alpha = g_rgb * upstream, g_alpha * upstream
        return g_rgb, g_alpha, None, None, None, None


def _rows(image: Tensor) -> np.ndarray:
    """[*b, H, W, C] as [B, H, W * C], contiguous."""
    height, width, channels = image.shape[-3:]
    return image.detach().contiguous().view(-1, height, width * channels).numpy()


def _joined(colour: Tensor, matte: Tensor, dtype: torch.dtype) -> Tensor:
    """Colour and matte as images [*b, H, W, 4]: without a copy where they are parts of one, as
    frames come."""
    shape = (*matte.shape[:-1], 4)
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    beside = colour.data_ptr() + 3 * colour.element_size() == matte.data_ptr()
    if (
        beside
        and colour.dtype == matte.dtype == dtype
        and colour.stride() == strides == matte.stride()
    ):
        return colour.as_strided(shape, strides)
    return torch.cat([colour.to(dtype), matte.to(dtype)], -1)
