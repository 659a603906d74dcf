"""The renderer for any machine: numba kernels, differentiable, multi-threaded, no compiler needed.

The kernels are compiled by the first rendering of a machine (about ten seconds) and then kept on disk; call
``warm_up()`` before anything that should not be held up.
"""

from __future__ import annotations

import dataclasses
import logging
import os

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from renderers.batches import add_screen_gradients, render_batch
from renderers.output import RenderOutput, ScreenStats
from scene.camera import Camera
from scene.cloud import GaussianCloud
from scene.errors import UserError

log = logging.getLogger(__name__)

THREADS_VARIABLE = "LIKENESS_THREADS"


def default_threads() -> int:
    """The number in the environment variable LIKENESS_THREADS, else the cores open to this process (at most 16)."""
    text = os.environ.get(THREADS_VARIABLE)
    if text is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, 16)
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise UserError(f"{THREADS_VARIABLE}={text}: expected a whole number from 1 to 64")
    return int(text)


class CpuRenderer:
    """Renders float32 clouds on the CPU; see ``renderers`` for the contract.

    threads: how many to use (default: ``default_threads()``). The same number of threads gives the same bits every
        time; pictures do not depend on it at all, gradients in the last digits.

    Differentiable in the means, quaternions, scales, opacities, harmonics and in ``camera.T_cam_world``; not in
    ``camera.K``. One instance may be used by several threads at once.
    """

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = default_threads() if threads is None else threads
        if self.threads < 1:
            raise ValueError(f"CpuRenderer: expected at least 1 thread, got {threads}")
        self._free: list = []

    def render(
        self, cloud: GaussianCloud, camera: Camera, *, depth: bool = False, screen: bool = False
    ) -> RenderOutput:
        """Renders a cloud; batches of cameras, clouds or both are rendered one after the other."""
        for name, tensor in {**cloud.fields(), "K": camera.K, "T_cam_world": camera.T_cam_world}.items():
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
                raise ValueError(
                    f"CpuRenderer: expected float32 on the CPU, got {name} as {tensor.dtype} on {tensor.device}"
                )
        if camera.K.requires_grad:
            raise ValueError("CpuRenderer: no gradient reaches camera.K; detach it")
        return render_batch(self._render_one, cloud, camera, depth=depth, screen=screen)

    def _render_one(self, cloud: GaussianCloud, camera: Camera, depth: bool, screen: bool) -> RenderOutput:
        from renderers.cpu_kernels.passes import run_backward, run_forward

        tensors = [*cloud.fields().values(), camera.T_cam_world]
        workspace = self._take()
        inputs = [tensor.detach().contiguous() for tensor in tensors]
        call = _Call(run_backward, workspace, inputs, camera, depth, screen)
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
            images = run_forward(workspace, inputs, camera.K, camera.width, camera.height, depth, False)
            stats = call.make_stats() if screen else None
            self._free.append(workspace)
        else:
            images = run_forward(workspace, inputs, camera.K, camera.width, camera.height, depth, True)
            stats = call.make_stats() if screen else None
            images = _Rendering.apply(_Lease(workspace, self._free), call, images, *tensors)
        rgb, alpha, weighted_depth = images
        if depth:
            # The expected depth, and its gradient by PyTorch; alpha is either 0 or at least ALPHA_MIN.
            weighted_depth = torch.where(alpha > 0, weighted_depth / torch.where(alpha > 0, alpha, 1), 0)
        return RenderOutput(rgb, alpha, weighted_depth if depth else None, stats)

    def _take(self):
        from renderers.cpu_kernels.workspace import Workspace

        try:
            return self._free.pop()
        except IndexError:
            return Workspace(self.threads)

    def warm_up(self) -> None:
        """Compiles every kernel, or loads it from the disk, by rendering two Gaussians in every way there is."""
        from renderers.cpu_kernels.sorting import sort_by_depth
        from renderers.cpu_kernels.workspace import Workspace

        probe = Workspace(1)
        probe.prepare(0, 8, 8)
        sort_by_depth(probe.splats, probe.keys, probe.indices)
        if sum(sort_by_depth.stats.cache_misses.values()):
            log.info("compiling the CPU renderer, once (about ten seconds)")
        means = torch.tensor([[0.0, 0.0, 1.0], [0.01, 0.0, 1.2]], requires_grad=True)
        cloud = GaussianCloud(
            means, torch.ones(2, 4), torch.full((2, 3), 0.05), torch.full((2,), 0.5), torch.ones(2, 16, 3)
        )
        for depth in (False, True):
            for screen in (False, True):
                camera = Camera.from_fov(1.0, 16, 16)
                self.render(cloud.map(torch.Tensor.detach), camera, depth=depth, screen=screen)
                output = self.render(cloud, camera, depth=depth, screen=screen)
                images = [output.rgb, output.alpha, output.depth]
                sum(image.sum() for image in images if image is not None).backward()


@dataclasses.dataclass
class _Call:
    """What the backward pass of one rendering needs to know."""

    run_backward: object
    workspace: object
    inputs: list[Tensor]
    camera: Camera
    depth: bool
    screen: bool
    means2d: Tensor | None = None

    def make_stats(self) -> ScreenStats:
        from renderers.cpu_kernels.layout import EXTENT_X, MEAN_X

        splats = torch.from_numpy(self.workspace.splats)
        extents = splats[:, EXTENT_X : EXTENT_X + 2]
        visible = extents[:, 0] > 0
        means2d = torch.where(visible[:, None], splats[:, MEAN_X : MEAN_X + 2], 0.0)
        radii = torch.where(visible, extents.amax(-1).ceil(), 0.0)
        self.means2d = means2d.requires_grad_()
        return ScreenStats(means2d, radii, visible)


class _Lease:
    """Gives a workspace back when the graph that holds it is gone."""

    def __init__(self, workspace, free: list) -> None:
        self.workspace, self.free = workspace, free

    def __del__(self) -> None:
        self.free.append(self.workspace)


class _Rendering(torch.autograd.Function):
    """Hangs a finished forward pass into PyTorch's graph."""

    @staticmethod
    def forward(ctx, lease: _Lease, call: _Call, images: tuple[Tensor, ...], *tensors: Tensor):
        ctx.lease, ctx.call = lease, call
        ctx.set_materialize_grads(False)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx, g_rgb: Tensor | None, g_alpha: Tensor | None, g_depth: Tensor | None):
        call = ctx.call
        gradients, g_means2d, g_absolute = call.run_backward(
            call.workspace, call.inputs, call.camera, g_rgb, g_alpha, g_depth if call.depth else None, call.screen
        )
        if call.means2d is not None:
            add_screen_gradients(call.means2d, grad=g_means2d, absgrad=g_absolute)
        return None, None, None, *gradients
