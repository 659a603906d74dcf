"""gsplat's ``rasterization`` on the pretended CUDA device: our CPU renderer behind gsplat's arguments and answers."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import torch
from torch import Tensor

from renderers.cpu import CpuRenderer
from scene.camera import Camera
from scene.cloud import GaussianCloud
from tests.pretended_cuda import CudaTensor

_FIELDS = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def install(monkeypatch) -> None:
    """Puts it where ``import gsplat`` finds it."""
    module = types.ModuleType("gsplat")
    module.__spec__ = importlib.machinery.ModuleSpec("gsplat", None)
    module.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", module)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *, near_plane, far_plane, eps2d, sh_degree,
    packed, render_mode, absgrad, rasterize_mode,
):  # fmt: skip
    """Pictures [*g, C, H, W, 3 or 4], alpha, and of the facts ``means2d`` and ``radii``."""
    groups, cameras, count = tuple(means.shape[:-2]), viewmats.shape[-3], means.shape[-2]
    coefficients = (sh_degree + 1) ** 2
    expected = {
        "means": (count, 3), "quats": (count, 4), "scales": (count, 3), "opacities": (count,),
        "colors": (count, coefficients, 3), "viewmats": (cameras, 4, 4),
    }  # fmt: skip
    inputs = means, quats, scales, opacities, colors, viewmats
    for (name, shape), tensor in zip(expected.items(), inputs):
        assert isinstance(tensor, CudaTensor) and tensor.dtype == torch.float32, name
        assert tensor.shape == (*groups, *shape), name
    assert Ks.shape == (*groups, cameras, 3, 3) and not packed and rasterize_mode == "classic"
    call = _Call(Ks.values, width, height, render_mode == "RGB+ED", absgrad, groups, cameras)
    means2d, radii = _Project.apply(call, *inputs)
    images, alphas = _Composite.apply(call, means2d, *inputs)
    return images, alphas, {"means2d": means2d, "radii": radii}


class _Call:
    """One call: the renderings behind it with their graphs."""

    def __init__(self, K: Tensor, width: int, height: int, depth: bool, absgrad: bool, groups, cameras: int) -> None:
        self.K, self.width, self.height, self.depth, self.absgrad = K, width, height, depth, absgrad
        self.groups, self.cameras = groups, cameras
        self.leaves: list[Tensor] = []
        self.outputs: list = []

    @torch.enable_grad()
    def render(self, inputs: list[Tensor]) -> None:
        """Renders on the CPU, one picture at a time."""
        self.leaves = [tensor.values.detach().clone().requires_grad_() for tensor in inputs]
        flat = [leaf.reshape(-1, *leaf.shape[len(self.groups) :]) for leaf in self.leaves]
        K, renderer = self.K.reshape(-1, self.cameras, 3, 3), CpuRenderer(1)
        for group in range(len(flat[0]) if self.groups else 1):
            *fields, poses = (tensor[group] if self.groups else leaf for tensor, leaf in zip(flat, self.leaves))
            for index in range(self.cameras):
                camera = Camera(K[group, index], poses[index], self.width, self.height)
                self.outputs.append(renderer.render(GaussianCloud(*fields), camera, depth=self.depth, screen=True))

    def stacked(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).reshape(*self.groups, self.cameras, *parts[0].shape)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, *inputs: Tensor):
        call.render(list(inputs))
        seen = [output.screen for output in call.outputs]
        means2d = call.stacked([torch.where(s.visible[:, None], s.means2d.detach(), float("nan")) for s in seen])
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
        pictures = [torch.cat([o.rgb, o.depth], -1) if call.depth else o.rgb for o in call.outputs]
        alphas = [output.alpha for output in call.outputs]
        return CudaTensor(call.stacked(pictures)), CudaTensor(call.stacked(alphas))

    @staticmethod
    def backward(ctx, g_images: Tensor, g_alphas: Tensor):
        call, (means2d,) = ctx.call, ctx.saved_tensors
        pictures = [image for o in call.outputs for image in ((o.rgb, o.depth) if call.depth else (o.rgb,))]
        channels = [3, 1] if call.depth else [3]
        upstream = [part for g in g_images.values.flatten(0, -4) for part in g.split(channels, -1)]
        alphas = [output.alpha for output in call.outputs]
        gradients = torch.autograd.grad(
            [*pictures, *alphas], call.leaves, [*upstream, *g_alphas.values.flatten(0, -4)], allow_unused=True
        )
        seen = [output.screen.means2d for output in call.outputs]
        if call.absgrad:
            means2d.absgrad = CudaTensor(call.stacked([s.absgrad for s in seen]))
        of_screen = CudaTensor(call.stacked([s.grad for s in seen]))
        return None, of_screen, *(None if g is None else CudaTensor(g) for g in gradients)
