"""SSIM with its gradient by a package's own CUDA kernels, where one is installed and gives what
ours gives.

fussim (on the package index, MIT) and fused-ssim, whose interface it took over: ``fused_ssim(image,
target, padding)`` of images [B, C, H, W], differentiable in the first. Both have this window,
these constants and padding by zeros.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PACKAGES = ("fussim", "fused_ssim")
_LARGEST_DIFFERENCE = 1e-3  # of the gradient, by its length; of the value itself


@dataclasses.dataclass(frozen=True)
class Choice:
    """What computes SSIM for fits: of images [B, H, W, 3] in single precision, or None for
    PyTorch's operations; and why, for people."""

    function: Callable[[Tensor, Tensor], Tensor] | None
    reason: str


@lru_cache
def choose(device: str, exact: Callable[[Tensor, Tensor], Tensor]) -> Choice:
    """The first package that is there and agrees with ``exact`` on a generated pair of images;
    tried once, for which the host waits."""
    reason = "no package for it is installed"
    for name in PACKAGES:
        try:
            function = _interface(importlib.import_module(name).fused_ssim)
            difference = _difference(function, exact, torch.device(device))
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
            reason = f"{name} cannot be imported ({error})"
        except Exception as error:  # whatever a foreign package raises: the fit does without it
            reason = f"{name} failed ({' '.join(str(error).split())})"
        else:
            if difference <= _LARGEST_DIFFERENCE:
                return Choice(function, f"SSIM by {name}, which differs by {difference:.1g}")
            reason = f"{name} differs by {difference:.2g}"
        log.warning("SSIM by PyTorch: %s", reason)
    return Choice(None, f"SSIM by PyTorch: {reason}")


def _interface(fused_ssim: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    def ssim(image: Tensor, target: Tensor) -> Tensor:
        x, y = (side.movedim(-1, 1).contiguous() for side in (image, target))
        return fused_ssim(x, y, padding="same")

    return ssim


def _difference(function: Callable, exact: Callable, device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 37, 53, 3, generator=generator)
    image = (target + 0.1 * torch.randn(target.shape, generator=generator)).to(device)
    values, gradients = [], []
    with torch.enable_grad():
        for ssim in (exact, function):
            leaf = image.clone().requires_grad_()
            value = ssim(leaf, target.to(device))
            gradients.append(torch.autograd.grad(value, leaf)[0])
            values.append(value.detach())
    apart = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    return max(float((values[0] - values[1]).abs()), float(apart))
