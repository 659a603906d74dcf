"""Features of points by bilinear lookups in the three axis-aligned planes of a tri-plane."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

AXES = ((0, 1), (0, 2), (1, 2))
"""The coordinates that span each plane: xy, xz, yz; rows of a plane follow the first."""


def look_up(levels: list[Tensor], points: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """The product over the three planes of each level, summed over the levels: [M, C / num_groups].

    levels: [3, R, R, C] each, of any R. points: [M, 3]; the corners of the box [-1, 1]³ are the centres of the
    outermost cells, beyond it the border's values hold. groups: [M] long, which of the ``num_groups`` equal parts of
    the channels a point reads.
    Differentiable in levels and points (which beyond the box get no gradient across its sides).
    """
    if points.dtype == torch.float32 and points.device.type == "cpu":
        return _Lookup.apply(points, groups, num_groups, *levels)
    total = None
    for level in levels:
        product = None
        for plane, (a, b) in zip(level, AXES):
            # Not points[:, (a, b)]: a list as an index is copied to a GPU at every step, which makes the host wait.
            values = _sampled(plane, torch.stack([points[:, a], points[:, b]], -1), groups, num_groups)
            product = values if product is None else product * values
        total = product if total is None else total + product
    return total


def compile_kernels() -> None:
    """Compiles what ``look_up`` needs on the CPU (seconds, once; then kept on disk): call it before a fit."""
    level, points = torch.ones(3, 2, 2, 1, requires_grad=True), torch.zeros(1, 3)
    look_up([level], points, torch.zeros(1, dtype=torch.long), 1).sum().backward()


def _sampled(plane: Tensor, at: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """One plane [R, R, C] at coordinates [M, 2] by PyTorch's grid_sample: any device, any precision."""
    values = torch.nn.functional.grid_sample(
        plane.permute(2, 0, 1)[None], at.flip(-1)[None, None], padding_mode="border", align_corners=True
    )[0, :, 0].T
    return values.unflatten(-1, (num_groups, -1))[torch.arange(len(at), device=at.device), groups]


class _Lookup(torch.autograd.Function):
    """All planes of all levels by the kernels, one task each: no two tasks write the same gradient."""

    @staticmethod
    def forward(ctx, points: Tensor, groups: Tensor, num_groups: int, *levels: Tensor) -> Tensor:
        from scene import plane_kernels

        columns = points.detach().T.contiguous().numpy()
        channels = levels[0].shape[-1] // num_groups
        values = torch.empty(len(levels), len(AXES), len(points), channels)
        of_group = groups.numpy()

        def task(level: int, plane: int) -> None:
            a, b = AXES[plane]
            table = levels[level].detach()[plane].reshape(-1, channels).numpy()
            plane_kernels.gather(
                table, levels[level].shape[1], of_group, num_groups, columns[a], columns[b],
                values[level, plane].numpy(),
            )  # fmt: skip

        _run(task, len(levels))
        ctx.save_for_backward(points, groups, values, *levels)
        ctx.num_groups = num_groups
        return values.prod(1).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        from scene import plane_kernels

        points, groups, values, *levels = ctx.saved_tensors
        channels, of_group = grad.shape[-1], groups.numpy()
        columns = points.T.contiguous().numpy()
        by_axis = torch.zeros(len(levels), len(AXES), 2, len(points))
        grads = [torch.zeros_like(level) for level in levels]

        def task(level: int, plane: int) -> None:
            a, b = AXES[plane]
            others = [values[level, other] for other in range(len(AXES)) if other != plane]
            plane_kernels.scatter(
                levels[level].detach()[plane].reshape(-1, channels).numpy(), levels[level].shape[1], of_group,
                ctx.num_groups, columns[a], columns[b], (grad * others[0]).mul_(others[1]).numpy(),
                grads[level][plane].view(-1, channels).numpy(), *by_axis[level, plane].numpy(),
            )  # fmt: skip

        _run(task, len(levels))
        along = by_axis.sum(0)
        grad_points = torch.zeros_like(points)
        for plane, axes in enumerate(AXES):
            for side, axis in enumerate(axes):
                grad_points[:, axis] += along[plane, side]
        return grad_points, None, None, *grads


def _run(task, num_levels: int) -> None:
    """``task(level, plane)`` for every plane, the largest first, on as many threads as PyTorch uses."""
    tasks = [(level, plane) for level in reversed(range(num_levels)) for plane in range(len(AXES))]
    threads = torch.get_num_threads()
    if threads == 1:
        for level, plane in tasks:
            task(level, plane)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda pair: task(*pair), tasks))
