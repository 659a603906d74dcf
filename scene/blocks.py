"""What playback evaluates per Gaussian on a CPU: a table blended by the state's codes, then a small network.

One sweep through memory: of a few Gaussians at a time the table's entries are read, blended and taken through all
layers before the next. Tables are kept in 16 bits (whole numbers with a factor for each code and channel: an error of
at most 1/65 000 of the largest entry), half of what must be read for each picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scene.workers import run_rows

_LARGEST = 32767


class BlockedNetwork:
    """``network(start + W Σ_b codes[b] table[:, b])`` for all Gaussians, on the CPU in single precision.

    ``W`` is the first layer's weight; without layers the blend itself is added to ``start``.
    """

    def __init__(self, table: Tensor, start: Tensor, layers: Sequence[nn.Linear] = ()) -> None:
        """table: [N, B, f]. start: [N, H], the first layer's sums without the blend (its bias included), or without
        layers [N, f]. layers: linear layers with ReLUs between them; ``layers[0]`` has f inputs, its bias is not read.
        """
        self._count, self._outputs = len(table), layers[-1].out_features if layers else table.shape[2]
        largest = table.abs().amax(0).clamp_min(1e-30)  # [B, f]
        factors = largest / _LARGEST
        self._factors = factors.T.contiguous().numpy()  # [f, B]
        self._table = self._blocked((table / factors).round_().to(torch.int16).transpose(1, 2)).numpy()
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
        """The outputs [N, O] for codes [B], not yet computed, and what computes those of the Gaussians of the blocks
        ``first`` to ``last`` of ``num_blocks``, each of ``block_kernels.LANES``."""
        from scene.block_kernels import PARTS, evaluate  # numba loads slowly: only when used

        out, codes = torch.empty(self._count, self._outputs), codes.detach().numpy()
        (used,) = codes.nonzero()
        factors = np.zeros((len(self._factors), len(used) + -len(used) % PARTS), np.float32)
        np.multiply(self._factors[:, used], codes[used], out=factors[:, : len(used)])
        used = np.append(used, np.zeros(factors.shape[1] - len(used), used.dtype))
        arrays = self._table, factors, used, self._start, self._weights, self._biases, self._sizes, out.numpy()
        return out, lambda first, last: evaluate(first, last, *arrays)

    @property
    def num_blocks(self) -> int:
        return len(self._table)

    @staticmethod
    def _blocked(rows: Tensor) -> Tensor:
        """[N, *, c] as [blocks, *, c, lanes], the last block filled up with zeros."""
        from scene.block_kernels import LANES

        rows = torch.cat([rows, rows.new_zeros(-len(rows) % LANES, *rows.shape[1:])])
        return rows.unflatten(0, (-1, LANES)).movedim(1, -1).contiguous()


def compile_kernels() -> None:
    """Compiles what evaluation needs (seconds, once; then kept on disk): call it before playback."""
    BlockedNetwork(torch.ones(1, 1, 1), torch.zeros(1, 1), [nn.Linear(1, 1)])(torch.ones(1))


def _padded(weight: Tensor) -> Tensor:
    """Rows of zeros below, up to a multiple of what the kernel sums up at once."""
    from scene.block_kernels import ROWS

    return torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % ROWS))


def _packed(weight: Tensor, inputs: int) -> Tensor:
    """[J, K] flat as [J / ROWS, inputs, ROWS]; inputs beyond K are what an earlier layer's padding gives: zeros."""
    from scene.block_kernels import ROWS

    weight = torch.nn.functional.pad(weight, (0, inputs - weight.shape[1]))
    return weight.unflatten(0, (-1, ROWS)).transpose(1, 2).flatten()
