"""Blending per-Gaussian bases by states' codes."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.ops.threads import run_rows, suit_kernels

# of a thread's share of a table: fewer are blended before another thread has begun
_MIN_COLUMNS = 1 << 14


def blend(basis: Tensor, codes: Tensor) -> Tensor:
    """Σ_b codes[b] basis[n, b] of basis [N, B, f] and codes [*b, B]: [*b, N, f]. No gradient; see
    ``likeness.fitting.avatars.blending``.

    One sweep through the basis, which is all that it can cost: for one state on a CPU in single
    precision, and for several anywhere.
    """
    if codes.ndim > 1:
        states = codes.reshape(-1, codes.shape[-1]).expand(len(basis), -1, -1)
        return torch.bmm(states, basis).transpose(0, 1).unflatten(0, codes.shape[:-1])
    if not suit_kernels(basis, codes) or not basis.is_contiguous():
        return torch.matmul(codes, basis)
    from likeness.ops import blend_cpu  # numba loads slowly: only when used

    out = basis.new_empty(len(basis), basis.shape[2])
    arrays = basis.detach().numpy(), codes.detach().contiguous().numpy(), out.numpy()
    run_rows(lambda first, last: blend_cpu.blend(first, last, *arrays), len(basis))
    return out


def blend_by_code(table: Tensor, codes: Tensor) -> Tensor:
    """Σ_b codes[b] table[b] of a table [B, M] that lies in memory code by code: [M]. No gradient.

    For playback: on a CPU in single precision what has a code of 0 is not even read.
    """
    if not suit_kernels(table, codes) or not table.is_contiguous():
        return codes @ table
    from likeness.ops import blend_cpu

    out, codes = table.new_empty(table.shape[1]), codes.detach().contiguous()
    arrays = table.detach().numpy(), codes.numpy(), codes.nonzero()[:, 0].numpy(), out.numpy()
    run_rows(
        lambda first, last: blend_cpu.blend_by_code(first, last, *arrays), len(out), _MIN_COLUMNS
    )
    return out


def compile_kernels() -> None:
    """Compiles what blending needs (seconds, once; then kept on disk): call it before a fit or
    playback."""
    blend(torch.zeros(1, 1, 1), torch.zeros(1))
    blend_by_code(torch.zeros(1, 1), torch.ones(1))
