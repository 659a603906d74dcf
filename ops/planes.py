"""Features of points by bilinear lookups in the three axis-aligned planes of a tri-plane."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

AXES = ((0, 1), (0, 2), (1, 2))
"""The coordinates that span each plane: xy, xz, yz; rows of a plane follow the first."""


def look_up(levels: list[Tensor], points: Tensor, shared: bool = False) -> Tensor:
    """The product over the three planes of each level, summed over the levels: [M, G, C / G].

    levels: [3, R, R, C] each, of any R. points: [M, G, 3]; the corners of the box [-1, 1]³ are the
    centres of the outermost cells, beyond it the border's values hold. Of the channels, in G equal
    parts, each of the G points reads its own part; with ``shared`` all read the first.
    Differentiable in levels and points (which beyond the box get no gradient across its sides).
    """
    if points.dtype == torch.float32 and points.device.type == "cpu":
        return _Lookup.apply(points, shared, *levels)
    products: list[Tensor] = []
    for level in levels:
        # Not points[..., (a, b)]: a list as an index is copied to a GPU at every step, which makes
        # the host wait.
        at = [torch.stack([points[..., a], points[..., b]], -1) for a, b in AXES]
        xy, xz, yz = (_sampled(plane, places, shared) for plane, places in zip(level, at))
        products.append(xy * xz * yz)
    return functools.reduce(torch.add, products)


def compile_kernels() -> None:
    """Compiles what ``look_up`` needs on the CPU (seconds, once; then kept on disk): call it before
    a fit."""
    level, points = torch.ones(3, 2, 2, 1, requires_grad=True), torch.zeros(1, 1, 3)
    look_up([level], points).sum().backward()


def _sampled(plane: Tensor, at: Tensor, shared: bool) -> Tensor:
    """One plane [R, R, C] at coordinates [M, G, 2], [M, G, C / G], by PyTorch's grid_sample: any
    device, any precision.

    Its batch are the G parts of the channels, so that a point reads no more than its own.
    """
    parts = plane.unflatten(-1, (at.shape[1], -1)).permute(2, 3, 0, 1)  # [G, C / G, R, R], a view
    if shared:
        parts = parts[:1].expand_as(parts)
    grid = at.flip(-1).transpose(0, 1)[:, None]  # [G, 1, M, 2], the column first
    values = torch.nn.functional.grid_sample(parts, grid, padding_mode="border", align_corners=True)
    return values[:, :, 0].permute(2, 0, 1)


class _Lookup(torch.autograd.Function):
    """All planes of all levels by the kernels, one task each: no two tasks write the same
    gradient."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, shared: bool, *levels: Tensor) -> Tensor:
        from likeness.ops import planes_cpu

        shape, points = points.shape[:2], points.detach().flatten(0, 1)
        columns, num_groups = points.T.contiguous().numpy(), shape[1]
        channels = levels[0].shape[-1] // num_groups
        values = torch.empty(len(levels), len(AXES), len(points), channels)
        of_group = np.tile(np.arange(num_groups) * (not shared), shape[0])

        def task(level: int, plane: int) -> None:
            a, b = AXES[plane]
            table = levels[level].detach()[plane].reshape(-1, channels).numpy()
            planes_cpu.gather(
                table,
                levels[level].shape[1],
                of_group,
                num_groups,
                columns[a],
                columns[b],
                values[level, plane].numpy(),
            )

        _run(task, len(levels))
        ctx.save_for_backward(points, values, *levels)
        ctx.shape, ctx.of_group = shape, of_group
        return values.prod(1).sum(0).unflatten(0, shape)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> Any:
        grad = grad_outputs[0]
        from likeness.ops import planes_cpu

        points, values, *levels = ctx.saved_tensors
        channels, of_group, grad = grad.shape[-1], ctx.of_group, grad.flatten(0, 1)
        columns = points.T.contiguous().numpy()
        by_axis = torch.zeros(len(levels), len(AXES), 2, len(points))
        grads = [torch.zeros_like(level) for level in levels]

        def task(level: int, plane: int) -> None:
            a, b = AXES[plane]
            others = [values[level, other] for other in range(len(AXES)) if other != plane]
            planes_cpu.scatter(
                levels[level].detach()[plane].reshape(-1, channels).numpy(),
                levels[level].shape[1],
                of_group,
                ctx.shape[1],
                columns[a],
                columns[b],
                (grad * others[0]).mul_(others[1]).numpy(),
                grads[level][plane].view(-1, channels).numpy(),
                *by_axis[level, plane].numpy(),
            )

        _run(task, len(levels))
        along = by_axis.sum(0)
        grad_points = torch.zeros_like(points)
        for plane, axes in enumerate(AXES):
            for side, axis in enumerate(axes):
                grad_points[:, axis] += along[plane, side]
        return grad_points.unflatten(0, ctx.shape), None, *grads


def _run(task: Callable[[int, int], None], num_levels: int) -> None:
    """``task(level, plane)`` for every plane, the largest first, on as many threads as PyTorch
    uses."""
    tasks = [(level, plane) for level in reversed(range(num_levels)) for plane in range(len(AXES))]
    threads = torch.get_num_threads()
    if threads == 1:
        for level, plane in tasks:
            task(level, plane)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda pair: task(*pair), tasks))
