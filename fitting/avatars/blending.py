"""The product that blends per-Gaussian bases by the codes of one state."""

from __future__ import annotations

import torch
from torch import Tensor

from scene import bases

BASIS_DIMENSIONS = 3
"""Of a basis [N, B, f]."""


class BlendBasis(torch.autograd.Function):
    """Σ_b e_b F_b for one state: basis [N, B, f] and codes [B] to [N, f].

    The gradient by the basis is one outer product: made as such (autograd's own is several passes), or, where an
    optimizer has asked for it by ``collect_factors``, left as its two factors.
    """

    @staticmethod
    def forward(ctx, basis: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(basis, codes)
        ctx.leaf = basis  # itself, with what was noted on it
        return bases.blend(basis, codes)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        basis, codes = ctx.saved_tensors
        grad_codes = torch.einsum("nbf,nf->b", basis, grad) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_codes
        collected = getattr(ctx.leaf, "gradient_factors", None)
        if collected is None:
            return codes[None, :, None] * grad[:, None, :], grad_codes
        collected.append((codes.detach(), grad.detach()))
        return None, grad_codes


def collect_factors(basis: Tensor) -> None:
    """From here on backward passes add ``(codes [B], gradient of the blend [N, f])`` to what ``factors_of`` gives, and
    nothing to ``basis.grad``; what was collected before is dropped. Only for leaves, such as parameters."""
    basis.gradient_factors = []


def factors_of(basis: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What was collected: the gradient of the basis is ``basis.grad`` and the sum of the factors' outer products."""
    return getattr(basis, "gradient_factors", [])
