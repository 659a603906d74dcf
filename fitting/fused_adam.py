"""Adam (Kingma and Ba, 2015) in one sweep per parameter on the CPU; elsewhere PyTorch's own fused
Adam."""

from __future__ import annotations

import collections

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.avatars.blending import BASIS_DIMENSIONS, collect_factors, factors_of

_BETAS = (0.9, 0.999)


class FusedAdam:
    """``torch.optim.Adam`` on float32 parameters on the CPU: same groups and state, same updates
    but for roundings.

    ``zero_grad`` asks blended bases for their gradients as factors
    (``likeness.fitting.avatars.blending``), so that the largest tensor of a step is never made. Not
    a ``torch.optim.Optimizer``: to make one of those costs a second of imports.
    """

    def __init__(self, groups: list[dict], *, eps: float) -> None:
        defaults = {"lr": 1e-3, "betas": _BETAS, "eps": eps}
        self.param_groups = [defaults | group for group in groups]
        self.state: dict[Tensor, dict] = collections.defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients; buffers are never kept, whatever ``set_to_none`` says."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
                if parameter.ndim == BASIS_DIMENSIONS:
                    collect_factors(parameter)

    @torch.no_grad()
    def step(self) -> None:
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                factors = factors_of(parameter)
                if parameter.grad is not None or factors:
                    _update(parameter, factors, self.state[parameter], group)


def make_adam(
    groups: list[dict], device: torch.device, dtype: torch.dtype, epsilon: float
) -> FusedAdam | torch.optim.Optimizer:
    """The fastest Adam for parameters of a device and precision."""
    if device.type == "cpu" and dtype == torch.float32:
        return FusedAdam(groups, eps=epsilon)
    return torch.optim.Adam(groups, eps=epsilon, fused=True)


def _update(
    parameter: Tensor, factors: list[tuple[Tensor, Tensor]], state: dict, group: dict
) -> None:
    from likeness.ops import adam_kernels  # numba loads slowly: only when used
    from likeness.ops.adam_blend_kernels import numbers_of

    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = (
            torch.zeros_like(parameter),
            torch.zeros_like(parameter),
        )
    tensors = (parameter.detach(), state["exp_avg"], state["exp_avg_sq"])
    # before anything changes: the kernels trust what they are given
    _check(tensors, parameter.grad, factors)
    state["step"] += 1
    numbers = numbers_of(int(state["step"]), group["lr"], group["betas"], group["eps"], np.float32)
    if factors:
        rows = [tensor.view(len(parameter), -1).numpy() for tensor in tensors]
        dense = (
            parameter.grad
            if parameter.grad is not None
            else parameter.new_empty(0, *parameter.shape[1:])
        )
        codes, columns = (torch.stack(part).contiguous().numpy() for part in zip(*factors))
        dense = dense.contiguous().reshape(len(dense), rows[0].shape[1]).numpy()
        adam_kernels.sweep_factors(*rows, dense, codes, columns, numbers)
        return
    adam_kernels.sweep(
        *(tensor.reshape(-1).numpy() for tensor in (*tensors, parameter.grad.contiguous())), numbers
    )


def _check(
    tensors: tuple[Tensor, ...], gradient: Tensor | None, factors: list[tuple[Tensor, Tensor]]
) -> None:
    """Raises ValueError unless a parameter, its moments, its gradient and the factors of it belong
    together."""
    parameter = tensors[0]
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError(
            f"FusedAdam: expected contiguous parameters and moments, got one of {list(parameter.shape)}"
        )
    for name, tensor in zip(("exp_avg", "exp_avg_sq", "the gradient"), (*tensors[1:], gradient)):
        if tensor is not None and (
            tensor.shape != parameter.shape or tensor.dtype != parameter.dtype
        ):
            raise ValueError(
                f"FusedAdam: {name}: expected {parameter.dtype} {list(parameter.shape)}, got {tensor.dtype} "
                f"{list(tensor.shape)}"
            )
    for codes, columns in factors:
        if codes.shape != parameter.shape[1:2] or columns.shape != parameter.shape[::2]:
            raise ValueError(
                f"FusedAdam: expected factors of {list(parameter.shape)}, got {list(codes.shape)} and "
                f"{list(columns.shape)}"
            )


def compile_kernels() -> None:
    """Compiles the kernels (seconds, once; then kept on disk): call it before a fit."""
    basis = torch.nn.Parameter(torch.zeros(1, 1, 1))
    optimizer = FusedAdam([{"params": [basis]}], eps=1e-15)
    basis.grad = torch.ones(1, 1, 1)
    optimizer.step()
    collect_factors(basis)
    factors_of(basis).append((torch.ones(1), torch.ones(1, 1)))
    optimizer.step()
