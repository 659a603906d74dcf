"""The forward and the backward pass: which kernel runs on what, in which order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from renderers.cpu_kernels.binning import bin_rows, fill_lists
from renderers.cpu_kernels.compositing import COMPOSITE_ROWS
from renderers.cpu_kernels.compositing_backward import COMPOSITE_ROWS_BACKWARD
from renderers.cpu_kernels.projection import pack_camera, project
from renderers.cpu_kernels.projection_backward import project_backward
from renderers.cpu_kernels.sorting import sort_by_depth
from renderers.cpu_kernels.workspace import Workspace
from scene.camera import Camera
from scene.workers import run_shares


def run_forward(
    workspace: Workspace, inputs: list[Tensor], K: Tensor, width: int, height: int, depth: bool, for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb [H, W, 3], alpha [H, W, 1] and the sum of weight times depth [H, W, 1] ([0, 0, 1] unless asked for).

    inputs: means, quats, scales, opacities, sh and T_cam_world, contiguous.
    """
    means, quats, scales, opacities, sh = (tensor.numpy() for tensor in inputs[:5])
    w, threads = workspace, workspace.threads
    count = means.shape[0]
    w.prepare(count, width, height)
    w.camera = pack_camera(K, inputs[5], width, height)
    rgb, alpha = torch.empty(height, width, 3), torch.empty(height, width, 1)
    weighted_depth = torch.empty(height, width, 1) if depth else torch.empty(0, 0, 1)
    rgb_out, alpha_out, depth_out = rgb.numpy(), alpha.numpy()[..., 0], weighted_depth.numpy()[..., 0]

    def project_share(t: int) -> None:
        project(
            count * t // threads, count * (t + 1) // threads, means, quats, scales, opacities, sh, w.camera,
            width, height, w.splats, w.basis[t],
        )  # fmt: skip

    run_shares(project_share, threads)
    drawn, row = sort_by_depth(w.splats, w.keys, w.indices)
    order = w.indices[row]
    composite_rows = COMPOSITE_ROWS[depth, for_backward]

    def composite_share(t: int) -> None:
        while True:
            spans, entries = bin_rows(
                t, threads, w.splats, order, drawn, width, height, w.spans[t], w.starts, w.counts
            )
            if not w.grow_lists(t, spans, entries):
                break
        fill_lists(w.spans[t], spans, w.starts, w.counts, w.entries[t])
        composite_rows(
            t, threads, w.splats, w.starts, w.counts, w.entries[t], w.scratch[t],
            rgb_out, alpha_out, depth_out, w.transmittances, w.stops,
        )  # fmt: skip

    run_shares(composite_share, threads)
    return rgb, alpha, weighted_depth


def run_backward(
    workspace: Workspace,
    inputs: list[Tensor],
    camera: Camera,
    g_rgb: Tensor | None,
    g_alpha: Tensor | None,
    g_depth: Tensor | None,
    absolute: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients of the six inputs, those of the screen means [N, 2], and the sums of these' absolute values [N, 2] (0
    unless ``absolute``)."""
    means, quats, scales, opacities, sh = (tensor.numpy() for tensor in inputs[:5])
    w, threads = workspace, workspace.threads
    count, (height, width) = means.shape[0], (camera.height, camera.width)
    no_depth = g_depth is None
    g_rgb = (torch.zeros(height, width, 3) if g_rgb is None else g_rgb.contiguous()).numpy()
    g_alpha = (torch.zeros(height, width, 1) if g_alpha is None else g_alpha.contiguous()).numpy()[..., 0]
    g_depth = (torch.zeros(0, 0, 1) if no_depth else g_depth.contiguous()).numpy()[..., 0]
    sums = w.gradients()
    composite_rows_backward = COMPOSITE_ROWS_BACKWARD[not no_depth, absolute]

    def composite_share(t: int) -> None:
        composite_rows_backward(
            t, threads, w.splats, w.starts, w.counts, w.entries[t], w.transmittances, w.stops, w.scratch[t],
            g_rgb, g_alpha, g_depth, sums[t],
        )  # fmt: skip

    run_shares(composite_share, threads)
    gradients = [torch.empty_like(tensor) for tensor in inputs[:5]]
    outputs = [tensor.numpy() for tensor in gradients]
    g_means2d, g_absolute = torch.empty(count, 2), torch.empty(count, 2)
    g_camera = np.zeros((threads, 15))

    def project_share(t: int) -> None:
        project_backward(
            count * t // threads, count * (t + 1) // threads, means, quats, scales, opacities, sh, w.camera,
            w.splats, sums, w.basis[t][:16], w.basis[t][16:],
            *outputs, g_means2d.numpy(), g_absolute.numpy(), g_camera[t],
        )  # fmt: skip

    run_shares(project_share, threads)
    return [*gradients, _pose_gradient(inputs[5], g_camera.sum(0))], g_means2d, g_absolute


def _pose_gradient(T_cam_world: Tensor, sums: np.ndarray) -> Tensor:
    """[4, 4] from the sums of ``project_backward``; the centre is ``-R^T t``."""
    pose = T_cam_world.double().numpy()
    rotation, translation, g_center = pose[:3, :3], pose[:3, 3], sums[12:]
    gradient = np.zeros((4, 4))
    gradient[:3, :3] = sums[:9].reshape(3, 3) - np.outer(translation, g_center)
    gradient[:3, 3] = sums[9:12] - rotation @ g_center
    return torch.from_numpy(gradient).to(T_cam_world)
