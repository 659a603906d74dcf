"""Figures of training steps, left on their device until somebody asks: every reading makes the
host wait for a GPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class FitDivergedError(RuntimeError):
    """A loss or a gradient became NaN or infinite; the message names it."""


class Figures:
    """Loss, its unweighted terms and the PSNR in dB of one step. Asking for any reads all unread
    ones."""

    def __init__(self, unread: Unread, step: int, names: tuple[str, ...]) -> None:
        """names: of the terms."""
        self._unread, self.step, self._names = unread, step, names
        self._numbers: list[float] = []

    @property
    def ready(self) -> bool:
        """Whether they can be had without a wait."""
        return bool(self._numbers)

    @property
    def loss(self) -> float:
        return self._read()[0]

    @property
    def psnr(self) -> float:
        return -10 * math.log10(max(self._read()[1], 1e-10))

    @property
    def terms(self) -> dict[str, float]:
        return dict(zip(self._names, self._read()[2:]))

    def _read(self) -> list[float]:
        if not self._numbers:
            self._unread.read()
        return self._numbers


class Unread:
    """The figures of steps that nobody has read yet, and where their values are."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Figures, Tensor]] = []

    def add(
        self, step: int, loss: Tensor, terms: dict[str, Tensor], squared_error: Tensor
    ) -> Figures:
        """Those of one more step, as tensors without dimensions on one device."""
        values = torch.stack([tensor.detach() for tensor in (loss, squared_error, *terms.values())])
        figures = Figures(self, step, tuple(terms))
        self._waiting.append((figures, values))
        return figures

    def read(self) -> None:
        """Reads all of them in one transfer. Raises FitDivergedError for the first step whose loss
        is not finite."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        numbers = iter(torch.cat([values for _, values in waiting]).tolist())
        for figures, values in waiting:
            figures._numbers = [next(numbers) for _ in range(len(values))]
        for figures, _ in waiting:
            if not math.isfinite(figures.loss):
                raise FitDivergedError(f"iteration {figures.step}: the loss is {figures.loss}")
