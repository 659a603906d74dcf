"""The product that blends per-Gaussian bases by the codes of one state."""

from __future__ import annotations

import torch
from torch import Tensor


class BlendBasis(torch.autograd.Function):
    """Σ_b e_b F_b for one state: basis [N, B, f] and codes [B] to [N, f].

    With a gradient that is one outer product (autograd's own is several passes).
    """

    @staticmethod
    def forward(ctx, basis: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(basis, codes)
        return torch.matmul(codes, basis)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        basis, codes = ctx.saved_tensors
        grad_codes = torch.einsum("nbf,nf->b", basis, grad) if ctx.needs_input_grad[1] else None
        return codes[None, :, None] * grad[:, None, :], grad_codes
