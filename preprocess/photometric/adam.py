"""Adam (Kingma and Ba, 2015), for the whole of some tensors and for tables of which every step
touches a few rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS = (0.9, 0.99)
_ROW_BETAS = (0.6, 0.85)  # a row has few steps, and shall forget the first ones


def _in_kernels(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


class Adam:
    """Adam on tensors with a learning rate each."""

    def __init__(self, tensors: Sequence[Tensor], rates: Sequence[float], epsilon: float) -> None:
        self._tensors, self._rates, self._epsilon = list(tensors), list(rates), epsilon
        self._first = [torch.zeros_like(tensor) for tensor in tensors]
        self._second = [torch.zeros_like(tensor) for tensor in tensors]
        self._step = torch.zeros((), dtype=torch.long)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Moves every tensor against its ``grad``, by its rate times ``factor``, and forgets the
        gradient."""
        self._step += 1
        step, (b1, b2) = int(self._step), _BETAS
        for tensor, rate, first, second in zip(
            self._tensors, self._rates, self._first, self._second
        ):
            rate = rate * factor
            if _in_kernels(tensor):
                from likeness.ops import adam_blend_kernels  # numba loads slowly: only when used

                values = [
                    t.detach().numpy().reshape(-1)
                    for t in (tensor, first, second, tensor.grad.contiguous())
                ]
                numbers = adam_blend_kernels.numbers_of(
                    step, rate, _BETAS, self._epsilon, values[0].dtype
                )
                adam_blend_kernels.update(*values, numbers)
            else:
                first.lerp_(tensor.grad, 1 - b1)
                second.mul_(b2).addcmul_(tensor.grad, tensor.grad, value=1 - b2)
                root = second.div(1 - b2**step).sqrt_().add_(self._epsilon)
                tensor.addcdiv_(first, root, value=-rate / (1 - b1**step))
            tensor.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs; the tensors themselves, not copies."""
        moments = {"first": self._first, "second": self._second}
        found = {
            f"{name}.{index}": t for name, parts in moments.items() for index, t in enumerate(parts)
        }
        return found | {"step": self._step}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class RowAdam:
    """Adam on a table [T, n], with moments and step numbers of each row.

    Rows that are not in a step keep their values and moments: torch.optim.Adam would move them on
        by their momentum.
    epsilon: gradients well below it move nothing; what a picture does not show must not wander.
    """

    def __init__(self, table: Tensor, epsilon: float) -> None:
        self.table, self._epsilon = table, epsilon
        self._first, self._second = torch.zeros_like(table), torch.zeros_like(table)
        self._steps = table.new_zeros(len(table), 1)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves rows [B] (each at most once) against their gradients [B, n]."""
        tensors = self.table, self._first, self._second, self._steps, rows, gradient.contiguous()
        if _in_kernels(self.table):
            from likeness.ops import adam_blend_kernels  # numba loads slowly: only when used

            adam_blend_kernels.update_rows(
                *(tensor.numpy() for tensor in tensors), rate, *_ROW_BETAS, self._epsilon
            )
            return
        b1, b2 = _ROW_BETAS
        steps = self._steps[rows] + 1
        first = b1 * self._first[rows] + (1 - b1) * gradient
        second = b2 * self._second[rows] + (1 - b2) * gradient**2
        self._steps[rows], self._first[rows], self._second[rows] = steps, first, second
        root = (second / (1 - b2**steps)).sqrt()
        self.table[rows] -= rate * first / (1 - b1**steps) / (root + self._epsilon)

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs; the tensors themselves, not copies."""
        return {
            "table": self.table,
            "first": self._first,
            "second": self._second,
            "steps": self._steps,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
