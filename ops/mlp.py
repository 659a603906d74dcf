"""What playback evaluates per Gaussian on a CPU: a table blended by the state's codes, then a small
network.

One sweep through memory: of a few Gaussians at a time the table's entries are read, blended and
taken through all layers before the next. Tables are kept as whole numbers with a scale and an
offset for each code and channel: in 8 bits where they were stored so and lose nothing, else in 16
(an error of at most 1/130 000 of a channel's range). That is a quarter or half of what must be read
for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from likeness.ops import quantization
from likeness.ops.threads import run_rows

_ON_GRID = 1e-3  # of a step: how far an entry may be from a number of 8 bits


class BlockedNetwork:
    """``network(start + W Σ_b codes[b] table[:, b])`` for all Gaussians, on the CPU in single
    precision.

    ``W`` is the first layer's weight; without layers the blend itself is added to ``start``.
    """

    def __init__(self, table: Tensor, start: Tensor, layers: Sequence[nn.Linear] = ()) -> None:
        """table: [N, B, f]. start: [N, H], the first layer's sums without the blend (its bias
        included), or without layers [N, f]. layers: linear layers with ReLUs between them;
        ``layers[0]`` has f inputs, its bias is not read.
        """
        self._count, self._outputs = (
            len(table),
            layers[-1].out_features if layers else table.shape[2],
        )
        numbers, scales, offsets = _whole_numbers(table)
        # [f, B], [B, f]
        self._scales, self._offsets = scales.T.contiguous().numpy(), offsets.numpy()
        self._table = self._blocked(numbers.transpose(1, 2)).numpy()
        weights = [_padded(layer.weight.detach()) for layer in layers]
        biases = [_padded(layer.bias.detach()[:, None])[:, 0] for layer in layers[1:]]
        if layers:
            start = torch.nn.functional.pad(start, (0, len(weights[0]) - start.shape[1]))
        self._start = self._blocked(start).numpy()
        sizes = [len(weight) for weight in weights] or [table.shape[2]]
        inputs = [table.shape[2], *sizes][: len(weights)]
        packed = [_packed(weight, size) for weight, size in zip(weights, inputs)]
        self._weights = torch.cat(packed or [table.new_empty(0)]).contiguous().numpy()
        self._biases = torch.cat(biases or [table.new_empty(0)]).contiguous().numpy()
        self._sizes = torch.tensor(sizes).numpy()

    def __call__(self, codes: Tensor) -> Tensor:
        """The outputs [N, O] for codes [B]. What has a code of 0 is not even read."""
        out, fill = self.begin(codes)
        run_rows(fill, self.num_blocks)
        return out

    def begin(self, codes: Tensor) -> tuple[Tensor, Callable[[int, int], None]]:
        """The outputs [N, O] for codes [B], not yet computed, and what computes those of the
        Gaussians of the blocks ``first`` to ``last`` of ``num_blocks``, each of
        ``mlp_cpu.LANES``."""
        from likeness.ops.mlp_cpu import PARTS, Blend, Layers, evaluate  # numba loads slowly

        out, given = torch.empty(self._count, self._outputs), codes.detach().numpy()
        (used,) = given.nonzero()
        factors = np.zeros((len(self._scales), len(used) + -len(used) % PARTS), np.float32)
        np.multiply(self._scales[:, used], given[used], out=factors[:, : len(used)])
        offsets = given[used] @ self._offsets[used]
        used = np.pad(used, (0, factors.shape[1] - len(used)))
        blend = Blend(self._table, factors, used, offsets)
        layers = Layers(self._start, self._weights, self._biases, self._sizes)
        return out, lambda first, last: evaluate(first, last, blend, layers, out.numpy())

    @property
    def num_blocks(self) -> int:
        return len(self._table)

    @staticmethod
    def _blocked(rows: Tensor) -> Tensor:
        """[N, *, c] as [blocks, *, c, lanes], the last block filled up with zeros."""
        from likeness.ops.mlp_cpu import LANES

        rows = torch.cat([rows, rows.new_zeros(-len(rows) % LANES, *rows.shape[1:])])
        return rows.unflatten(0, (-1, LANES)).movedim(1, -1).contiguous()


def _whole_numbers(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A table [N, B, f] as numbers [N, B, f], scales and offsets [B, f]: table = offset + scale
    number."""
    scales, offsets = quantization.ranges(table, torch.iinfo(torch.int8).max)
    for rows in (table[:1024], table):  # most that are on no grid show it at once
        numbers = ((rows - offsets) / scales).round_()
        if not ((offsets + scales * numbers - rows).abs() <= _ON_GRID * scales).all():
            break
    else:
        return numbers.to(torch.int8), scales, offsets
    scales, offsets = quantization.ranges(table, torch.iinfo(torch.int16).max)
    return ((table - offsets) / scales).round_().to(torch.int16), scales, offsets


def _padded(weight: Tensor) -> Tensor:
    """Rows of zeros below, up to a multiple of what the kernel sums up at once."""
    from likeness.ops.mlp_cpu import ROWS

    return torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % ROWS))


def _packed(weight: Tensor, inputs: int) -> Tensor:
    """[J, K] flat as [J / ROWS, inputs, ROWS]; inputs beyond K are what an earlier layer's padding
    gives: zeros."""
    from likeness.ops.mlp_cpu import ROWS

    weight = torch.nn.functional.pad(weight, (0, inputs - weight.shape[1]))
    return weight.unflatten(0, (-1, ROWS)).transpose(1, 2).flatten()
