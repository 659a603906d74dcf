"""gsplat 1.5.3 on the simulated CUDA device: our CPU renderer behind gsplat's arguments, answers
and waits.

Its sources make the host wait for the device once in every rasterization, for the number of tiles
that Gaussians meet (``csrc/Intersect.cpp``: ``cum_tiles_per_gauss[-1].item()``), and once more
where it is given harmonics, whose directions it takes from ``torch.inverse(viewmats)``
(``rendering.py``), which checks for singular matrices on the host.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types

import torch
from torch import Tensor

from likeness.ops import harmonics
from likeness.renderers import cuda_toolchain
from likeness.renderers.cpu import CpuRenderer
from likeness.renderers.gsplat import GsplatRenderer
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from tests import simulated_cuda
from tests.simulated_cuda import CudaTensor

WAIT = "gsplat's number of tiles"
"""What the device's ``waits`` call the one that no caller can avoid."""
_FIELDS = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def install(monkeypatch) -> None:
    """Puts it where ``import gsplat`` finds it; it needs no compiler."""
    module = types.ModuleType("gsplat")
    module.__spec__ = importlib.machinery.ModuleSpec("gsplat", None)
    module.rasterization, module.spherical_harmonics = rasterization, spherical_harmonics
    monkeypatch.setitem(sys.modules, "gsplat", module)
    monkeypatch.setattr(GsplatRenderer, "_compiled", False)
    monkeypatch.setattr(cuda_toolchain, "building", lambda *_: contextlib.nullcontext())


def spherical_harmonics(degrees_to_use: int, dirs: Tensor, coeffs: Tensor) -> Tensor:
    """[..., 3] of directions [..., 3] of any length and coefficients [..., K, 3]."""
    assert (
        coeffs.shape == (*dirs.shape[:-1], coeffs.shape[-2], 3)
        and dirs.dtype == coeffs.dtype == torch.float32
    )
    assert all(isinstance(tensor, CudaTensor) for tensor in (dirs, coeffs))
    assert (degrees_to_use + 1) ** 2 <= coeffs.shape[-2]
    values = harmonics.basis(torch.nn.functional.normalize(dirs, dim=-1), degrees_to_use)
    return (values[..., None] * coeffs[..., : (degrees_to_use + 1) ** 2, :]).sum(-2)


def rasterization(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmats,
    Ks,
    width,
    height,
    *,
    near_plane,
    far_plane,
    eps2d,
    sh_degree,
    packed,
    render_mode,
    absgrad,
    rasterize_mode,
):
    """Pictures [*g, C, H, W, D or D + 1], alpha, and of the facts ``means2d`` and ``radii``."""
    groups, cameras, count = tuple(means.shape[:-2]), viewmats.shape[-3], means.shape[-2]
    if sh_degree is not None:
        directions = means[..., None, :, :] - torch.inverse(viewmats)[..., None, :3, 3]
        coefficients = colors[..., None, :, :, :].expand(*directions.shape[:-1], *colors.shape[-2:])
        colors = (spherical_harmonics(sh_degree, directions, coefficients) + 0.5).clamp_min(0.0)
    elif colors.ndim == means.ndim:
        colors = colors[..., None, :, :].expand(*groups, cameras, *colors.shape[-2:])
    inputs = means, quats, scales, opacities, colors, viewmats
    shapes = (
        (count, 3),
        (count, 4),
        (count, 3),
        (count,),
        (cameras, count, colors.shape[-1]),
        (cameras, 4, 4),
    )
    for name, shape, tensor in zip(_FIELDS, shapes, inputs):
        assert isinstance(tensor, CudaTensor) and tensor.dtype == torch.float32, name
        assert tensor.shape == (*groups, *shape), name
    assert Ks.shape == (*groups, cameras, 3, 3) and not packed and rasterize_mode == "classic"
    simulated_cuda.current().wait(WAIT, helpless=True)
    call = _Call(Ks.values, width, height, render_mode == "RGB+ED", absgrad, groups, cameras)
    means2d, radii = _Project.apply(call, *inputs)
    images, alphas = _Composite.apply(call, means2d, *inputs)
    return images, alphas, {"means2d": means2d, "radii": radii}


class _Call:
    """One call: the renderings behind it with their graphs, three channels of colours to each."""

    def __init__(
        self, K: Tensor, width: int, height: int, depth: bool, absgrad: bool, groups, cameras: int
    ) -> None:
        self.K, self.width, self.height, self.depth, self.absgrad = K, width, height, depth, absgrad
        self.groups, self.cameras = groups, cameras
        self.leaves: list[Tensor] = []
        self.outputs: list = []  # one for each picture: of its first three channels
        self.pictures: list[Tensor] = []

    @torch.enable_grad()
    def render(self, inputs: list[Tensor]) -> None:
        """Renders on the CPU, one picture at a time."""
        self.leaves = [tensor.values.detach().clone().requires_grad_() for tensor in inputs]
        flat = [leaf.reshape(-1, *leaf.shape[len(self.groups) :]) for leaf in self.leaves]
        K, renderer = self.K.reshape(-1, self.cameras, 3, 3), CpuRenderer(1)
        for group in range(len(flat[0]) if self.groups else 1):
            *fields, colors, poses = (
                tensor[group] if self.groups else leaf for tensor, leaf in zip(flat, self.leaves)
            )
            for index in range(self.cameras):
                camera = Camera(K[group, index], poses[index], self.width, self.height)
                shown = [
                    self._shown(renderer, fields, three, camera)
                    for three in colors[index].split(3, -1)
                ]
                self.outputs.append(shown[0])
                channels = torch.cat([output.rgb for output in shown], -1)[..., : colors.shape[-1]]
                self.pictures.append(
                    torch.cat([channels, shown[0].depth], -1) if self.depth else channels
                )

    def _shown(self, renderer: CpuRenderer, fields: list[Tensor], three: Tensor, camera: Camera):
        padded = torch.nn.functional.pad(three, (0, 3 - three.shape[-1]))
        cloud = GaussianCloud(*fields, harmonics.from_rgb(padded)[:, None])
        return renderer.render(cloud, camera, depth=self.depth, screen="absolute")

    def stacked(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).reshape(*self.groups, self.cameras, *parts[0].shape)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, *inputs: Tensor):
        call.render(list(inputs))
        seen = [output.screen for output in call.outputs]
        means2d = call.stacked(
            [torch.where(s.visible[:, None], s.means2d.detach(), float("nan")) for s in seen]
        )
        radii = call.stacked([s.radii.detach().int()[:, None].expand(-1, 2) for s in seen])
        radii = CudaTensor(radii)
        ctx.mark_non_differentiable(radii)
        return CudaTensor(means2d), radii

    @staticmethod
    def backward(ctx, *_):
        return (None,) * (1 + len(_FIELDS))  # all gradients come from the picture


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, means2d: Tensor, *inputs: Tensor):
        ctx.call = call
        ctx.save_for_backward(means2d)
        alphas = [output.alpha for output in call.outputs]
        return CudaTensor(call.stacked(call.pictures)), CudaTensor(call.stacked(alphas))

    @staticmethod
    def backward(ctx, g_images: Tensor, g_alphas: Tensor):
        call, (means2d,) = ctx.call, ctx.saved_tensors
        alphas = [output.alpha for output in call.outputs]
        upstream = [*g_images.values.flatten(0, -4), *g_alphas.values.flatten(0, -4)]
        gradients = torch.autograd.grad(
            [*call.pictures, *alphas], call.leaves, upstream, allow_unused=True
        )
        seen = [output.screen for output in call.outputs]
        if call.absgrad:
            means2d.absgrad = CudaTensor(call.stacked([s.absgrad for s in seen]))
        of_screen = CudaTensor(call.stacked([s.means2d.grad for s in seen]))
        return None, of_screen, *(None if g is None else CudaTensor(g) for g in gradients)
