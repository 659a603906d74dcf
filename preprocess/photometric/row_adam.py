"""Adam for tables of which every step touches a few rows."""

from __future__ import annotations

import torch
from torch import Tensor


class RowAdam:
    """Adam (Kingma and Ba, 2015) on a table [T, n], with moments and step numbers of each row.

    Rows that are not in a step keep their values and moments: torch.optim.Adam would move them on by their momentum.
    epsilon: gradients well below it move nothing; what a picture does not show must not wander.
    """

    def __init__(self, table: Tensor, epsilon: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.table = table
        self._betas, self._epsilon = betas, epsilon
        self._first, self._second = torch.zeros_like(table), torch.zeros_like(table)
        self._steps = table.new_zeros(len(table), 1)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves rows [B] (each at most once) against their gradients [B, n]."""
        b1, b2 = self._betas
        steps = self._steps[rows] + 1
        first = b1 * self._first[rows] + (1 - b1) * gradient
        second = b2 * self._second[rows] + (1 - b2) * gradient**2
        self._steps[rows], self._first[rows], self._second[rows] = steps, first, second
        root = (second / (1 - b2**steps)).sqrt()
        self.table[rows] -= rate * first / (1 - b1**steps) / (root + self._epsilon)

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs; the tensors themselves, not copies."""
        return {"table": self.table, "first": self._first, "second": self._second, "steps": self._steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
