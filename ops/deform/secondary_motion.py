"""Sway: what is soft (hair, neck, clothes) moves beside head and body, as a coarse lattice of
control points says.

Free-form deformation (Sederberg and Parry, 1986) of the shape at rest: a sheet of control points
across the head frame, whose offsets along x and y hold at every depth. Bilinear between the points,
constant beyond the sheet. The face stays: what moves there is an expression.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.ops.threads import run_rows, suit_kernels
from likeness.scene.lattice import COLUMNS, HIGH_M, LOW_M, NUM_POINTS, ROWS

_FACE_M, _FACE_RADII_M = (0.0, -0.03, 0.0), (0.065, 0.085, 0.06)
_FACE_EDGE = 0.6  # beyond it, as a part of the radii, until where sway is whole


def apply_secondary_motion(points: Tensor, sway: Tensor) -> Tensor:
    """Points [*b, N, 3] at rest, moved by offsets [*b, NUM_POINTS, 2] of the control points, in
    metres."""
    fixed = not (torch.is_grad_enabled() and sway.requires_grad)
    if fixed and suit_kernels(points, sway) and points.ndim == 2 and sway.ndim == 2:
        return _Swayed.apply(points, sway)
    return apply_secondary_motion_torch(points, sway)


def apply_secondary_motion_torch(points: Tensor, sway: Tensor) -> Tensor:
    """``apply_secondary_motion`` in plain PyTorch operations: any device and batch, differentiable
    in the offsets too."""
    batch = torch.broadcast_shapes(points.shape[:-2], sway.shape[:-2])
    flat = points.expand(*batch, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    # Numbers, not tensors: those would be copied to a GPU at every step.
    across = [
        2 * (flat[..., a] - low) / (high - low) - 1
        for a, (low, high) in enumerate(zip(LOW_M, HIGH_M))
    ]
    places = torch.stack(across, -1)[:, None]
    sheets = sway.expand(*batch, NUM_POINTS, 2).reshape(-1, ROWS, COLUMNS, 2).permute(0, 3, 1, 2)
    shift = torch.nn.functional.grid_sample(
        sheets, places, padding_mode="border", align_corners=True
    )
    shift = shift[:, :, 0].transpose(1, 2) * _softness(flat)
    moved = torch.cat([flat[..., :2] + shift, flat[..., 2:]], -1)
    return moved.reshape(*batch, *points.shape[-2:])


def description() -> dict[str, int | float | list[float]]:
    """The constants of the formulas, for programs in other languages."""
    return {
        "columns": COLUMNS,
        "rows": ROWS,
        "low_m": list(LOW_M),
        "high_m": list(HIGH_M),
        "face_m": list(_FACE_M),
        "radii_m": list(_FACE_RADII_M),
        "edge": _FACE_EDGE,
    }


def compile_kernels() -> None:
    """Compiles what ``apply_secondary_motion`` needs on the CPU (seconds, once; then kept on disk):
    call it before a fit."""
    apply_secondary_motion(
        torch.zeros(1, 3, requires_grad=True), torch.zeros(NUM_POINTS, 2)
    ).sum().backward()


class _Swayed(torch.autograd.Function):
    """One cloud's points by the kernels; no gradient reaches the offsets."""

    @staticmethod
    def forward(ctx, points: Tensor, sway: Tensor) -> Tensor:
        from likeness.ops.deform import motion_kernels  # numba loads slowly: only when used

        points, sway = points.detach().contiguous(), sway.detach().contiguous()
        out = torch.empty_like(points)
        _in_shares(motion_kernels.sway, points, sway, out)
        ctx.save_for_backward(points, sway)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        from likeness.ops.deform import motion_kernels

        out = torch.empty_like(grad, memory_format=torch.contiguous_format)
        _in_shares(motion_kernels.sway_backward, *ctx.saved_tensors, grad.contiguous(), out)
        return out, None


def _in_shares(kernel, points: Tensor, sway: Tensor, *further: Tensor) -> None:
    arrays = (
        points.numpy(),
        sway.view(ROWS, COLUMNS, 2).numpy(),
        constants(),
        *(t.numpy() for t in further),
    )
    run_rows(lambda first, last: kernel(first, last, *arrays), len(points))


@functools.lru_cache
def constants():
    """As the kernels read them: where the lattice starts, cells per metre, the face, one over its
    radii, and edge."""
    cells = [(n - 1) / (high - low) for n, low, high in zip((COLUMNS, ROWS), LOW_M, HIGH_M)]
    inverse = [1 / radius for radius in _FACE_RADII_M]
    return torch.tensor([*LOW_M, *cells, *_FACE_M, *inverse, 1 / _FACE_EDGE]).numpy()


def _softness(points: Tensor) -> Tensor:
    """[..., N, 1]: 0 inside the face, 1 well outside of it."""
    square = sum(((points[..., a] - _FACE_M[a]) / _FACE_RADII_M[a]).square() for a in range(3))
    return ((square.sqrt() - 1) / _FACE_EDGE).clamp(0, 1)[..., None]
