"""The forward and the backward pass of pictures side by side: which kernel runs on what, in which
order."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from likeness.ops.threads import run_shares, share
from likeness.renderers.cpu_kernels.binning import bin_rows, fill_lists
from likeness.renderers.cpu_kernels.compositing import COMPOSITE_ROWS
from likeness.renderers.cpu_kernels.compositing_backward import COMPOSITE_ROWS_BACKWARD
from likeness.renderers.cpu_kernels.projection import project
from likeness.renderers.cpu_kernels.projection_backward import project_backward
from likeness.renderers.cpu_kernels.sorting import sort_by_depth
from likeness.renderers.cpu_kernels.workspace import Workspace

Cloud = list[np.ndarray]
"""means, quats, scales, opacities and sh of one picture, contiguous."""


def threads_per_picture(threads: int, pictures: int) -> int:
    """How many threads a picture's workspace is for: several only where there are more than
    pictures."""
    return max(1, threads // pictures)


def run_forward(
    workspaces: list[Workspace],
    clouds: list[Cloud],
    cameras: np.ndarray,
    size: tuple[int, int],
    depth: bool,
    for_backward: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb [B, H, W, 3], alpha [B, H, W, 1] and the sum of weight times depth [B, H, W, 1] ([B, 0,
    0, 1] unless asked for) of pictures of ``size`` (width, height); cameras: [B, CAMERA_COLUMNS].

    Pictures i and i + ``threads`` may share a workspace where there are no fewer pictures than
    threads."""
    (width, height), pictures = size, len(workspaces)
    rgb, alpha = torch.empty(pictures, height, width, 3), torch.empty(pictures, height, width, 1)
    weighted_depth = (
        torch.empty(pictures, height, width, 1) if depth else torch.empty(pictures, 0, 0, 1)
    )
    images = rgb.numpy(), alpha.numpy()[..., 0], weighted_depth.numpy()[..., 0]
    composite_rows = COMPOSITE_ROWS[depth, for_backward]

    def prepare(i: int, t: int) -> None:
        workspaces[i].prepare(len(clouds[i][0]), width, height)
        workspaces[i].camera = cameras[i]

    def project_part(i: int, t: int) -> None:
        w, cloud = workspaces[i], clouds[i]
        first, last = share(len(cloud[0]), t, w.threads)
        project(first, last, *cloud, w.camera, width, height, w.splats, w.basis[t])

    def sort(i: int, t: int) -> None:
        w = workspaces[i]
        w.drawn, row = sort_by_depth(w.splats, w.keys, w.indices)
        w.order = w.indices[row]

    def composite_part(i: int, t: int) -> None:
        w = workspaces[i]
        while True:
            spans, entries = bin_rows(
                t,
                w.threads,
                w.splats,
                w.order,
                w.drawn,
                width,
                height,
                w.spans[t],
                w.starts,
                w.counts,
            )
            if not w.grow_lists(t, spans, entries):
                break
        fill_lists(t, w.threads, w.spans[t], spans, w.starts, w.counts, w.entries[t])
        composite_rows(
            t,
            w.threads,
            w.splats,
            w.starts,
            w.counts,
            w.entries[t],
            w.scratch[t],
            *(image[i] for image in images),
            w.transmittances,
            w.stops,
        )

    parts = workspaces[0].threads
    _run(
        [(prepare, 1), (project_part, parts), (sort, 1), (composite_part, parts)], pictures, threads
    )
    return rgb, alpha, weighted_depth


def run_backward(
    workspaces: list[Workspace],
    clouds: list[Cloud],
    size: tuple[int, int],
    g_rgb: Tensor | None,
    g_alpha: Tensor | None,
    g_depth: Tensor | None,
    absolute: bool,
    threads: int,
) -> tuple[list[Tensor], np.ndarray, Tensor, Tensor]:
    """Gradients [B, ...] of a cloud's five tensors, the sums [B, 15] that those of the poses are
    made of (``project_backward``), the gradients of the screen means [B, N, 2], and the sums of
    these' absolute values [B, N, 2] (0 unless ``absolute``)."""
    (width, height), pictures, no_depth = size, len(workspaces), g_depth is None
    g_rgb = torch.zeros(pictures, height, width, 3) if g_rgb is None else g_rgb.contiguous()
    g_alpha = torch.zeros(pictures, height, width, 1) if g_alpha is None else g_alpha.contiguous()
    g_depth = torch.zeros(pictures, 0, 0, 1) if g_depth is None else g_depth.contiguous()
    upstream = g_rgb.numpy(), g_alpha.numpy()[..., 0], g_depth.numpy()[..., 0]
    sums = [workspace.gradients() for workspace in workspaces]
    composite_rows_backward = COMPOSITE_ROWS_BACKWARD[not no_depth, absolute]
    gradients = [torch.empty(pictures, *array.shape) for array in clouds[0]]
    count = len(clouds[0][0])
    g_means2d, g_absolute = torch.empty(pictures, count, 2), torch.empty(pictures, count, 2)
    outputs = [tensor.numpy() for tensor in (*gradients, g_means2d, g_absolute)]
    parts = workspaces[0].threads
    g_camera = np.zeros((pictures, parts, 15))

    def composite_part(i: int, t: int) -> None:
        w = workspaces[i]
        composite_rows_backward(
            t,
            parts,
            w.splats,
            w.starts,
            w.counts,
            w.entries[t],
            w.transmittances,
            w.stops,
            w.scratch[t],
            *(gradient[i] for gradient in upstream),
            sums[i][t],
        )

    def project_part(i: int, t: int) -> None:
        w = workspaces[i]
        project_backward(
            *share(count, t, parts),
            *clouds[i],
            w.camera,
            w.splats,
            sums[i],
            w.basis[t][:16],
            w.basis[t][16:],
            *(output[i] for output in outputs),
            g_camera[i, t],
        )

    _run([(composite_part, parts), (project_part, parts)], pictures, threads)
    return gradients, g_camera.sum(1), g_means2d, g_absolute


def pose_gradients(T_cam_world: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """[B, 4, 4] of poses [B, 4, 4] from the sums [B, 15] of ``project_backward``; the centre is
    ``-R^T t``."""
    rotation, translation, g_center = T_cam_world[:, :3, :3], T_cam_world[:, :3, 3], sums[:, 12:]
    gradient = np.zeros(T_cam_world.shape)
    gradient[:, :3, :3] = (
        sums[:, :9].reshape(-1, 3, 3) - translation[:, :, None] * g_center[:, None]
    )
    gradient[:, :3, 3] = sums[:, 9:12] - (rotation @ g_center[:, :, None])[..., 0]
    return gradient


def _run(stages: list[tuple[Callable[[int, int], None], int]], pictures: int, threads: int) -> None:
    """Calls every stage with each picture and each of the stage's parts, one stage after another.

    Where a picture has one thread it goes through all stages in it, and no thread waits for
    another.
    """
    if all(parts == 1 for _, parts in stages):

        def go_through(t: int) -> None:
            for i in range(t, pictures, threads):
                for stage, _ in stages:
                    stage(i, 0)

        run_shares(go_through, min(threads, pictures))
        return
    for stage, parts in stages:
        run_shares(
            lambda s, stage=stage, parts=parts: stage(s // parts, s % parts), pictures * parts
        )
