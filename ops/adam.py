"""Adam (Kingma and Ba, 2015): for whole parameters, and for tables of which a step touches a few
rows."""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.ops.blend import BASIS_DIMENSIONS, collect_factors, factors_of
from likeness.ops.threads import run_rows

_MIN_NUMBERS = 1 << 15  # of a thread's share: fewer are updated before another thread has begun
_ROW_BETAS = (0.6, 0.85)  # a row has few steps, and shall forget the first ones

Factors = list[tuple[Tensor, Tensor]]


class Adam:
    """``torch.optim.Adam`` with the same groups and state, and the same updates but for roundings:
    on a CPU in one sweep per parameter.

    ``zero_grad`` asks blended bases for their gradients as factors (``likeness.ops.blend``), so
    that the largest tensor of a step is never made. Not a ``torch.optim.Optimizer``: to make one of
    those costs a second of imports.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, eps: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        defaults: dict[str, Any] = {"lr": 1e-3, "betas": betas, "eps": eps}
        self.param_groups: list[dict[str, Any]] = [defaults | group for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = collections.defaultdict(dict)

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
                    _update(parameter, factors, self.state_of(parameter), group)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """The step number [] and the two moments of a parameter, by PyTorch's names."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class RowAdam:
    """Adam on a table [T, n], with moments and step numbers of each row.

    Rows that are not in a step keep their values and moments: torch.optim.Adam would move them on
    by their momentum. epsilon: gradients well below it move nothing; what an image does not show
    must not wander.
    """

    def __init__(self, table: Tensor, epsilon: float) -> None:
        self.table, self._epsilon = table, epsilon
        self._first, self._second = torch.zeros_like(table), torch.zeros_like(table)
        self._steps = table.new_zeros(len(table), 1)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves rows [B] (each at most once) against their gradients [B, n]."""
        table, first, second, steps = self.state().values()
        if _in_kernels(table):
            from likeness.ops import adam_cpu  # numba loads slowly: only when used

            tensors = table, first, second, steps, rows, gradient.contiguous()
            arrays = [tensor.numpy() for tensor in tensors]
            adam_cpu.update_rows(*arrays, rate, *_ROW_BETAS, self._epsilon)
            return
        steps[rows] += 1
        numbers = _numbers(steps[rows], rate, _ROW_BETAS, self._epsilon)
        own, m, v = table[rows], first[rows], second[rows]
        update_reference(own, m, v, gradient, numbers)
        table[rows], first[rows], second[rows] = own, m, v

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs; the tensors themselves, not copies."""
        moments = {"first": self._first, "second": self._second}
        return {"table": self.table, **moments, "steps": self._steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def _in_kernels(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def update_reference(
    values: Tensor, first: Tensor, second: Tensor, gradient: Tensor, numbers: tuple[Any, ...]
) -> None:
    """One step of Adam in plain PyTorch operations, in place; numbers: see
    ``likeness.ops.adam_cpu``."""
    change, square_keep, square_change, rate, root, epsilon = numbers
    first.lerp_(gradient, change)
    second.mul_(square_keep).addcmul_(gradient, gradient, value=square_change)
    values.sub_(rate * first / (second.sqrt() * root + epsilon))


def _numbers(step: Any, rate: float, betas: tuple[float, float], epsilon: float) -> tuple[Any, ...]:
    """What an update reads at a step (from 1 on). Complements as such: 1 - 0.999 in single
    precision is 5e-5 off."""
    beta1, beta2 = betas
    root = (1 - beta2**step) ** -0.5
    return 1 - beta1, beta2, 1 - beta2, rate / (1 - beta1**step), root, epsilon


def _update(
    parameter: Tensor, factors: Factors, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    tensors = parameter.detach(), state["exp_avg"], state["exp_avg_sq"]
    # before anything changes: the kernels trust what they are given
    _check(tensors, parameter.grad, factors)
    state["step"] += 1
    numbers = _numbers(int(state["step"]), group["lr"], group["betas"], group["eps"])
    gradient = parameter.grad
    if not _in_kernels(parameter):
        for codes, columns in factors:
            outer = codes[:, None] * columns[:, None]
            gradient = outer if gradient is None else gradient + outer
        assert gradient is not None
        update_reference(*tensors, gradient, numbers)
        return
    from likeness.ops import adam_cpu  # numba loads slowly: only when used

    if not factors:
        assert gradient is not None
        flat = [t.view(-1).numpy() for t in (*tensors, gradient.contiguous())]
        constants = np.array(numbers, flat[0].dtype)
        run_rows(
            lambda a, b: adam_cpu.update(a, b, *flat, constants), parameter.numel(), _MIN_NUMBERS
        )
        return
    arrays = [t.view(len(parameter), -1).numpy() for t in tensors]
    constants = np.array(numbers, arrays[0].dtype)
    dense = parameter.new_empty(0, *parameter.shape[1:]) if gradient is None else gradient
    dense = dense.contiguous().view(len(dense), arrays[0].shape[1]).numpy()
    codes, columns = (torch.stack(part).contiguous().numpy() for part in zip(*factors))
    run_rows(
        lambda a, b: adam_cpu.update_factors(a, b, *arrays, dense, codes, columns, constants),
        len(parameter),
        math.ceil(_MIN_NUMBERS / arrays[0].shape[1]),
    )


def _check(tensors: tuple[Tensor, ...], gradient: Tensor | None, factors: Factors) -> None:
    """Raises ValueError unless a parameter, its moments, its gradient and the factors of it belong
    together."""
    parameter = tensors[0]
    shape = list(parameter.shape)
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError(f"Adam: expected contiguous parameters and moments, got one of {shape}")
    for name, tensor in zip(("exp_avg", "exp_avg_sq", "the gradient"), (*tensors[1:], gradient)):
        if tensor is None:
            continue
        if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
            got = f"{tensor.dtype} {list(tensor.shape)}"
            raise ValueError(f"Adam: {name}: expected {parameter.dtype} {shape}, got {got}")
    for codes, columns in factors:
        if codes.shape != parameter.shape[1:2] or columns.shape != parameter.shape[::2]:
            got = f"{list(codes.shape)} and {list(columns.shape)}"
            raise ValueError(f"Adam: expected factors of {shape}, got {got}")


def make_adam(
    groups: list[dict[str, Any]], device: torch.device, dtype: torch.dtype, epsilon: float
) -> Adam | torch.optim.Optimizer:
    """The fastest Adam for parameters of a device and precision."""
    if device.type == "cpu" and dtype == torch.float32:
        return Adam(groups, eps=epsilon)
    return torch.optim.Adam(groups, eps=epsilon, fused=True)


def compile_kernels() -> None:
    """Compiles the kernels (seconds, once; then kept on disk): call it before a fit."""
    basis = torch.nn.Parameter(torch.zeros(1, 1, 1))
    optimizer = Adam([{"params": [basis]}], eps=1e-15)
    basis.grad = torch.ones(1, 1, 1)
    optimizer.step()
    collect_factors(basis)
    factors_of(basis).append((torch.ones(1), torch.ones(1, 1)))
    optimizer.step()
