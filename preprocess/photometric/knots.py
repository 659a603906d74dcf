"""Values that change slowly, held at knots in time and linear between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.scene.to_device import to_device


class Knots:
    """Knots ``interval_s`` seconds apart over the ``times`` [T] of frames. What swings slower than
    they lie is held by
    few numbers: noise of single frames, which these could take in, has no place."""

    def __init__(self, times: Sequence[float], interval_s: float) -> None:
        at = (torch.tensor(times, dtype=torch.float64) - min(times)) / interval_s
        self._first, self._share = at.long(), at.frac().float()
        self.count = int(self._first.max()) + 2

    def around(self, rows: Sequence[int]) -> Tensor:
        """The knots [n], ascending, that the values of these frames depend on."""
        first = self._first[list(rows)]
        return torch.unique(torch.cat([first, first + 1]))

    def between(self, values: Tensor, rows: Sequence[int], knots: Tensor | None = None) -> Tensor:
        """Values [B, ...] of frames from those of all knots [K, ...], or of ``knots`` [n] alone
        (``around``)."""
        first, after = self._first[list(rows)], self._share[list(rows)].to(values.dtype)
        before = first if knots is None else torch.searchsorted(knots, first)
        # Both knots of a frame are there, so that the later one is next.
        share, before = to_device(
            (after.reshape(-1, *[1] * (values.ndim - 1)), before), values.device
        )
        return values[before] * (1 - share) + values[before + 1] * share
