"""Blending per-Gaussian bases by one state's codes."""

from __future__ import annotations

import torch
from torch import Tensor

from scene.workers import run_shares


def blend(basis: Tensor, codes: Tensor) -> Tensor:
    """Σ_b codes[b] basis[n, b] of basis [N, B, f] and codes [B]: [N, f]. No gradient; see ``fitting.avatars.blending``.

    On a CPU in single precision one sweep through the basis, which is all that it can cost.
    """
    plain = basis.device.type != "cpu" or {basis.dtype, codes.dtype} != {torch.float32} or not basis.is_contiguous()
    if plain:
        return torch.matmul(codes, basis)
    from scene import basis_kernels  # numba loads slowly: only when used

    count, shares = len(basis), torch.get_num_threads()
    out = basis.new_empty(count, basis.shape[2])
    arrays = basis.detach().numpy(), codes.detach().contiguous().numpy(), out.numpy()

    def share(t: int) -> None:
        basis_kernels.blend(arrays[0], arrays[1], count * t // shares, count * (t + 1) // shares, arrays[2])

    run_shares(share, shares)
    return out


def blend_by_code(table: Tensor, codes: Tensor) -> Tensor:
    """Σ_b codes[b] table[b] of a table [B, M] that lies in memory code by code: [M]. No gradient.

    For playback: on a CPU in single precision what has a code of 0 is not even read.
    """
    if table.device.type != "cpu" or {table.dtype, codes.dtype} != {torch.float32} or not table.is_contiguous():
        return codes @ table
    from scene import basis_kernels

    out, columns, shares = table.new_empty(table.shape[1]), table.shape[1], torch.get_num_threads()
    arrays = table.detach().numpy(), codes.detach().contiguous().numpy()
    used, result = codes.detach().nonzero()[:, 0].numpy(), out.numpy()

    def share(t: int) -> None:
        basis_kernels.blend_by_code(*arrays, used, columns * t // shares, columns * (t + 1) // shares, result)

    run_shares(share, shares)
    return out


def compile_kernels() -> None:
    """Compiles what blending needs (seconds, once; then kept on disk): call it before a fit or playback."""
    blend(torch.zeros(1, 1, 1), torch.zeros(1))
    blend_by_code(torch.zeros(1, 1), torch.ones(1))
