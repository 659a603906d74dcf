"""The renderer for any machine: numba kernels, differentiable, multi-threaded, no compiler needed.

The kernels are compiled by the first rendering of a machine (ten to thirty seconds) and then kept
on disk; call ``warm_up()`` before anything that should not be held up.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import math
import os

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.renderers.batches import check_batches, splat_as_colours
from likeness.renderers.cpu_kernels.records import Cloud
from likeness.renderers.output import RenderOutput, ScreenRequest, ScreenStats
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError

log = logging.getLogger(__name__)

THREADS_VARIABLE = "LIKENESS_THREADS"


def default_threads() -> int:
    """The number in the environment variable LIKENESS_THREADS, else the cores open to this process
    (at most 16)."""
    text = os.environ.get(THREADS_VARIABLE)
    if text is None:
        cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        return min(cores, 16)
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise UserError(f"{THREADS_VARIABLE}={text}: expected a whole number from 1 to 64")
    return int(text)


class CpuRenderer:
    """Renders float32 clouds on the CPU; see ``renderers`` for the contract.

    threads: how many to use (default: ``default_threads()``). The same number of threads gives the
        same bits every time; images do not depend on it at all, gradients in the last digits.

    Differentiable in the means, quaternions, scales, opacities, harmonics and in
    ``camera.T_cam_world``; not in ``camera.K``. One instance may be used by several threads at
    once.
    """

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = default_threads() if threads is None else threads
        if self.threads < 1:
            raise ValueError(f"CpuRenderer: expected at least 1 thread, got {threads}")
        # workspaces by their number of threads
        self._free: dict[int, list] = collections.defaultdict(list)

    def render(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        *,
        depth: bool = False,
        screen: ScreenRequest = False,
    ) -> RenderOutput:
        """Renders a cloud; images of a batch of cameras, clouds or both share the threads."""
        for name, tensor in {
            **cloud.fields(),
            "K": camera.K,
            "T_cam_world": camera.T_cam_world,
        }.items():
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
                raise ValueError(
                    f"CpuRenderer: expected float32 on the CPU, got {name} as {tensor.dtype} on "
                    f"{tensor.device}"
                )
        if camera.K.requires_grad:
            raise ValueError("CpuRenderer: no gradient reaches camera.K; detach it")
        from likeness.renderers.cpu_kernels.passes import run_forward

        tensors = [*cloud.fields().values(), camera.T_cam_world]
        call = _Call.of(cloud, camera, depth, screen, self.threads)
        differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        num_images = len(call.cameras)
        owned = num_images if differentiable or screen else min(num_images, self.threads)
        leases = [_Lease(self._take(call.threads_per_image), self._free) for _ in range(owned)]
        call.workspaces = [leases[i % owned].workspace for i in range(num_images)]
        images = run_forward(
            call.workspaces,
            call.clouds,
            call.cameras,
            (camera.width, camera.height),
            depth,
            differentiable,
            self.threads,
        )
        images = tuple(image.view(*call.batch, *image.shape[1:]) for image in images)
        stats = call.make_stats() if screen else None
        if differentiable:
            images = _Rendering.apply(leases, call, images, *tensors)
        rgb, alpha, weighted_depth = images
        if depth:
            # The expected depth, and its gradient by PyTorch; alpha is either 0 or at least
            # ALPHA_MIN.
            weighted_depth = torch.where(
                alpha > 0, weighted_depth / torch.where(alpha > 0, alpha, 1), 0
            )
        return RenderOutput(rgb, alpha, weighted_depth if depth else None, stats)

    def _take(self, threads: int):
        from likeness.renderers.cpu_kernels.workspace import Workspace

        try:
            return self._free[threads].pop()
        except IndexError:
            return Workspace(threads)

    def splat(self, cloud: GaussianCloud, camera: Camera, features: Tensor) -> Tensor:
        """See ``renderers``."""
        return splat_as_colours(self.render, cloud, camera, features)

    def warm_up(self, gradients: bool = True) -> None:
        """Compiles every kernel but those of depth, or loads it from the disk. Depth is compiled
        when it is first asked
        for: most processes never do."""
        _announce_compilation()
        _load_kernels(gradients)


@functools.cache
def _announce_compilation() -> None:
    """Says once in a process that the kernels are not on the disk yet."""
    from likeness.renderers.cpu_kernels.sorting import sort_by_depth
    from likeness.renderers.cpu_kernels.workspace import Workspace

    probe = Workspace(1)
    probe.prepare(0, 8, 8)
    sort_by_depth(probe.splats, probe.keys, probe.indices)
    if sum(sort_by_depth.stats.cache_misses.values()):
        log.info("compiling the CPU renderer, once (ten to thirty seconds)")


@functools.cache
def _load_kernels(gradients: bool) -> None:
    """Renders two Gaussians in every way but with depth, once in a process."""
    means = torch.tensor([[0.0, 0.0, 1.0], [0.01, 0.0, 1.2]], requires_grad=gradients)
    cloud = GaussianCloud(
        means,
        torch.ones(2, 4),
        torch.full((2, 3), 0.05),
        torch.full((2,), 0.5),
        torch.ones(2, 16, 3),
    )
    camera, renderer = Camera.from_fov(1.0, 16, 16), CpuRenderer()
    renderer.render(cloud.detach(), camera)
    for screen in (False, True) if gradients else ():
        renderer.render(cloud.detach(), camera, screen=screen)
        output = renderer.render(cloud, camera, screen=screen)
        (output.rgb.sum() + output.alpha.sum()).backward()


@dataclasses.dataclass
class _Call:
    """What the backward pass of B images needs to know. clouds: arrays of each image's fields;
    poses: [B, 4, 4]."""

    batch: tuple[int, ...]
    clouds: list[Cloud]
    cameras: np.ndarray
    poses: np.ndarray
    size: tuple[int, int]
    depth: bool
    screen: ScreenRequest
    threads: int
    threads_per_image: int
    workspaces: list = dataclasses.field(default_factory=list)
    stats: ScreenStats | None = None

    @classmethod
    def of(
        cls, cloud: GaussianCloud, camera: Camera, depth: bool, screen: ScreenRequest, threads: int
    ) -> _Call:
        from likeness.renderers.cpu_kernels.passes import threads_per_image
        from likeness.renderers.cpu_kernels.projection import pack_cameras

        batch = check_batches(cloud, camera)
        count = math.prod(batch)
        fields = [
            _per_image(t, len(cloud.batch_shape), count).numpy() for t in cloud.fields().values()
        ]
        K, poses = (
            _per_image(t, len(camera.batch_shape), count).double().numpy()
            for t in (camera.K, camera.T_cam_world)
        )
        clouds = [
            Cloud(*(np.ascontiguousarray(field[i]) for field in fields)) for i in range(count)
        ]
        cameras = pack_cameras(K, poses, camera.width, camera.height)
        size = camera.width, camera.height
        return cls(
            batch,
            clouds,
            cameras,
            poses,
            size,
            depth,
            screen,
            threads,
            threads_per_image(threads, count),
        )

    def make_stats(self) -> ScreenStats:
        from likeness.renderers.cpu_kernels.layout import EXTENT_X, MEAN_X

        splats = torch.stack([torch.from_numpy(workspace.splats) for workspace in self.workspaces])
        splats = splats.view(*self.batch, *splats.shape[1:])
        extents = splats[..., EXTENT_X : EXTENT_X + 2]
        visible = extents[..., 0] > 0
        means2d = torch.where(visible[..., None], splats[..., MEAN_X : MEAN_X + 2], 0.0)
        radii = torch.where(visible, extents.amax(-1).ceil(), 0.0)
        absgrad = torch.zeros_like(means2d) if self.screen == "absolute" else None
        self.stats = ScreenStats(means2d.requires_grad_(), radii, visible, absgrad)
        return self.stats


def _per_image(tensor: Tensor, batch_dimensions: int, count: int) -> Tensor:
    """[count, ...], one for each image, of a tensor with these leading batch dimensions or, if
    none, shared."""
    tensor = tensor.detach()
    if batch_dimensions == 0:
        return tensor.expand(count, *tensor.shape)
    return tensor if batch_dimensions == 1 else tensor.flatten(0, batch_dimensions - 1)


class _Lease:
    """Gives a workspace back when the graph that holds it is gone."""

    def __init__(self, workspace, free: dict[int, list]) -> None:
        self.workspace, self.free = workspace, free

    def __del__(self) -> None:
        self.free[self.workspace.threads].append(self.workspace)


class _Rendering(torch.autograd.Function):
    """Hangs a finished forward pass into PyTorch's graph."""

    @staticmethod
    def forward(
        ctx, leases: list[_Lease], call: _Call, images: tuple[Tensor, ...], *tensors: Tensor
    ):
        ctx.leases, ctx.call = leases, call
        ctx.shapes = [tensor.shape for tensor in tensors]
        ctx.set_materialize_grads(False)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor | None):
        from likeness.renderers.cpu_kernels.passes import pose_gradients, run_backward

        call = ctx.call
        g_rgb, g_alpha, g_depth = (
            None if g is None else g.reshape(-1, *g.shape[-3:]) for g in upstream
        )
        gradients, sums, g_means2d, g_absolute = run_backward(
            call.workspaces,
            call.clouds,
            call.size,
            g_rgb,
            g_alpha,
            g_depth if call.depth else None,
            bool(call.screen),
            call.threads,
        )
        if call.stats is not None:
            shape = call.stats.means2d.shape
            call.stats.add_gradients(g_means2d.view(shape), g_absolute.view(shape))
        gradients.append(torch.from_numpy(pose_gradients(call.poses, sums)).float())
        # What all images share gets the sum of their gradients.
        summed = [
            g.reshape(shape) if g.numel() == shape.numel() else g.sum(0)
            for g, shape in zip(gradients, ctx.shapes)
        ]
        return None, None, None, *summed
