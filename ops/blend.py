"""Blending per-Gaussian bases by states' codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from likeness.ops.threads import run_rows, suit_kernels

# of a thread's share of a table: fewer are blended before another thread has begun
_MIN_COLUMNS = 1 << 14


def blend(basis: Tensor, codes: Tensor) -> Tensor:
    """Σ_b codes[b] basis[n, b] of basis [N, B, f] and codes [*b, B]: [*b, N, f]. ``BlendBasis`` has
    its gradient.

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


BASIS_DIMENSIONS = 3
"""Of a basis [N, B, f]."""

# of the bases whose gradients an optimizer wants as factors
_factors: WeakIdKeyDictionary = WeakIdKeyDictionary()


class BlendBasis(torch.autograd.Function):
    """Σ_b e_b F_b: basis [N, B, f] and codes [*b, B] to [*b, N, f].

    The gradient by the basis is one outer product for each state: made as such (autograd's own is
    several passes), or, where an optimizer has asked for it by ``collect_factors``, left as its two
    factors.
    """

    @staticmethod
    def forward(ctx: Any, basis: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(basis, codes)
        ctx.leaf = basis  # itself, by which its factors are found
        return blend(basis, codes)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        grad = grad_outputs[0]
        basis, codes = ctx.saved_tensors
        grad_codes = _by_codes(basis, grad) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_codes
        collected = _factors.get(ctx.leaf)
        if collected is None and codes.ndim == 1:
            return codes[None, :, None] * grad[:, None, :], grad_codes
        codes, grad = (
            codes.detach().reshape(-1, codes.shape[-1]),
            grad.detach().reshape(-1, *grad.shape[-2:]),
        )
        if collected is None:
            return torch.bmm(codes.T.expand(len(basis), -1, -1), grad.transpose(0, 1)), grad_codes
        collected.extend(zip(codes, grad))
        return None, grad_codes


def _by_codes(basis: Tensor, grad: Tensor) -> Tensor:
    """The gradient [*b, B] by the codes of a basis [N, B, f], of the gradient [*b, N, f] of the
    blend."""
    if grad.ndim == 2:
        return torch.einsum("nbf,nf->b", basis, grad)
    states = grad.reshape(-1, *grad.shape[-2:]).transpose(0, 1)
    return torch.bmm(states, basis.transpose(1, 2)).sum(0).view(*grad.shape[:-2], -1)


def collect_factors(basis: Tensor) -> None:
    """From here on backward passes add ``(codes [B], gradient of the blend [N, f])`` to what
    ``factors_of`` gives, and nothing to ``basis.grad``; what was collected before is dropped. Only
    for leaves, such as parameters."""
    _factors[basis] = []


def factors_of(basis: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What was collected: the gradient of the basis is ``basis.grad`` and the sum of the factors'
    outer products."""
    factors = _factors.get(basis)
    return [] if factors is None else factors


def compile_kernels() -> None:
    """Compiles what blending needs (seconds, once; then kept on disk): call it before a fit or
    playback."""
    blend(torch.zeros(1, 1, 1), torch.zeros(1))
    blend_by_code(torch.zeros(1, 1), torch.ones(1))
