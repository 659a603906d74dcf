"""Unit quaternions of many Gaussians in one sweep each for value and gradient, on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.scene.transforms import normalize_quats


def unit_quats(quats: Tensor) -> Tensor:
    """``likeness.scene.transforms.normalize_quats`` of [N, 4]; on a CPU by kernels, without second
    derivatives."""
    if (
        quats.device.type != "cpu"
        or quats.dtype not in (torch.float32, torch.float64)
        or quats.ndim != 2
    ):
        return normalize_quats(quats)
    return _UnitQuats.apply(quats)


def compile_kernels() -> None:
    """Compiles what ``unit_quats`` needs on the CPU (seconds, once; then kept on disk): call it
    before a fit."""
    unit_quats(torch.ones(1, 4, requires_grad=True)).sum().backward()


class _UnitQuats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quats: Tensor) -> Tensor:
        from likeness.ops import rows_cpu  # numba loads slowly: only when used

        quats = quats.detach().contiguous()
        units, inverse = torch.empty_like(quats), quats.new_empty(len(quats))
        rows_cpu.normalize(quats.numpy(), units.numpy(), inverse.numpy())
        ctx.save_for_backward(units, inverse)
        return units

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> Any:
        grad = grad_outputs[0]
        from likeness.ops import rows_cpu

        units, inverse = ctx.saved_tensors
        out = torch.empty_like(units)
        rows_cpu.normalize_backward(
            units.numpy(), inverse.numpy(), grad.contiguous().numpy(), out.numpy()
        )
        return out
