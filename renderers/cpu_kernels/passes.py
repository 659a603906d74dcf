"""The forward and the backward pass of images side by side: which kernel runs on what, in which
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
from likeness.renderers.cpu_kernels.records import Cloud, CloudGradients, Ends, Images, Lists
from likeness.renderers.cpu_kernels.sorting import sort_by_depth
from likeness.renderers.cpu_kernels.workspace import Workspace


def threads_per_image(threads: int, num_images: int) -> int:
    """How many threads an image's workspace is for: several only where there are more than
    images."""
    return max(1, threads // num_images)


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
    0, 1] unless asked for) of images of ``size`` (width, height); cameras: [B, CAMERA_COLUMNS].

    Images i and i + ``threads`` may share a workspace where there are no fewer images than
    threads."""
    (width, height), num_images = size, len(workspaces)
    rgb, alpha = (
        torch.empty(num_images, height, width, 3),
        torch.empty(num_images, height, width, 1),
    )
    weighted_depth = (
        torch.empty(num_images, height, width, 1) if depth else torch.empty(num_images, 0, 0, 1)
    )
    images = rgb.numpy(), alpha.numpy()[..., 0], weighted_depth.numpy()[..., 0]
    composite_rows = COMPOSITE_ROWS[depth, for_backward]

    def prepare(i: int, t: int) -> None:
        workspaces[i].prepare(len(clouds[i].means), width, height)
        workspaces[i].camera = cameras[i]

    def project_part(i: int, t: int) -> None:
        w, cloud = workspaces[i], clouds[i]
        first, last = share(len(cloud.means), t, w.threads)
        project(first, last, cloud, w.camera, width, height, w.splats, w.basis[t])

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
        lists, ends = Lists(w.starts, w.counts, w.entries[t]), Ends(w.transmittances, w.stops)
        own = Images(*(image[i] for image in images))
        composite_rows(t, w.threads, w.splats, lists, w.scratch[t], own, ends)

    parts = workspaces[0].threads
    _run(
        [(prepare, 1), (project_part, parts), (sort, 1), (composite_part, parts)],
        num_images,
        threads,
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
    (width, height), num_images, no_depth = size, len(workspaces), g_depth is None
    g_rgb = torch.zeros(num_images, height, width, 3) if g_rgb is None else g_rgb.contiguous()
    g_alpha = torch.zeros(num_images, height, width, 1) if g_alpha is None else g_alpha.contiguous()
    g_depth = torch.zeros(num_images, 0, 0, 1) if g_depth is None else g_depth.contiguous()
    upstream = g_rgb.numpy(), g_alpha.numpy()[..., 0], g_depth.numpy()[..., 0]
    sums = [workspace.gradients() for workspace in workspaces]
    composite_rows_backward = COMPOSITE_ROWS_BACKWARD[not no_depth, absolute]
    gradients = [torch.empty(num_images, *array.shape) for array in clouds[0]]
    count = len(clouds[0].means)
    g_means2d, g_absolute = torch.empty(num_images, count, 2), torch.empty(num_images, count, 2)
    outputs = [tensor.numpy() for tensor in (*gradients, g_means2d, g_absolute)]
    parts = workspaces[0].threads
    g_camera = np.zeros((num_images, parts, 15))

    def composite_part(i: int, t: int) -> None:
        w = workspaces[i]
        lists, ends = Lists(w.starts, w.counts, w.entries[t]), Ends(w.transmittances, w.stops)
        own = Images(*(gradient[i] for gradient in upstream))
        composite_rows_backward(t, parts, w.splats, lists, ends, w.scratch[t], own, sums[i][t])

    def project_part(i: int, t: int) -> None:
        w, (first, last) = workspaces[i], share(count, t, parts)
        by = CloudGradients(*(output[i] for output in outputs))
        project_backward(
            first, last, clouds[i], w.camera, w.splats, sums[i], w.basis[t], by, g_camera[i, t]
        )

    _run([(composite_part, parts), (project_part, parts)], num_images, threads)
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


def _run(
    stages: list[tuple[Callable[[int, int], None], int]], num_images: int, threads: int
) -> None:
    """Calls every stage with each image and each of the stage's parts, one stage after another.

    Where an image has one thread it goes through all stages in it, and no thread waits for
    another.
    """
    if all(parts == 1 for _, parts in stages):

        def go_through(t: int) -> None:
            for i in range(t, num_images, threads):
                for stage, _ in stages:
                    stage(i, 0)

        run_shares(go_through, min(threads, num_images))
        return
    for stage, parts in stages:
        run_shares(
            lambda s, stage=stage, parts=parts: stage(s // parts, s % parts), num_images * parts
        )
