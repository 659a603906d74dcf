"""Gaussian clouds moved by rigid frames."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.threads import run_rows, suit_kernels
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import matrices_to_quats, multiply_quats, normalize_quats

_LINEAR = (1, -1), (2, 1), (0, -1)  # axis and sign of the harmonics of degree 1


def move_rigidly(cloud: GaussianCloud, T: Tensor) -> GaussianCloud:
    """The cloud [*b, N] moved by T [*b, 4, 4]. Its harmonics stay: they look into the frame that it
    is moved in."""
    means = cloud.means @ T[..., :3, :3].transpose(-1, -2) + T[..., None, :3, 3]
    quats = multiply_quats(
        matrices_to_quats(T[..., :3, :3])[..., None, :].expand_as(cloud.quats), cloud.quats
    )
    return dataclasses.replace(cloud, means=means, quats=quats)


def blend_two_frames(
    cloud: GaussianCloud, T_head: Tensor, T_body: Tensor, weights: Tensor
) -> GaussianCloud:
    """Linear blend skinning of a cloud [*b, N] between two transforms [*b, 4, 4] that are less than
    a half turn from the identity, with weights [N] of the first.

    What is fixed to the body keeps its look when the head turns: its harmonics turn with it.
    """
    fixed = not (torch.is_grad_enabled() and (T_head.requires_grad or T_body.requires_grad))
    tensors = (*cloud.fields().values(), T_head, T_body, weights)
    if fixed and not cloud.batch_shape and suit_kernels(*tensors):
        means, quats, sh = _Blend.apply(cloud.means, cloud.quats, cloud.sh, weights, T_head, T_body)
        return dataclasses.replace(cloud, means=means, quats=quats, sh=sh)
    return blend_two_frames_torch(cloud, T_head, T_body, weights)


def blend_two_frames_torch(
    cloud: GaussianCloud, T_head: Tensor, T_body: Tensor, weights: Tensor
) -> GaussianCloud:
    """``blend_two_frames`` in plain PyTorch operations: any device and batch, differentiable in the
    transforms too."""
    w = weights[:, None]
    head = cloud.means @ T_head[..., :3, :3].transpose(-1, -2) + T_head[..., None, :3, 3]
    body = cloud.means @ T_body[..., :3, :3].transpose(-1, -2) + T_body[..., None, :3, 3]
    means = body + w * (head - body)
    q_head = matrices_to_quats(T_head[..., :3, :3])[..., None, :]
    q_body = matrices_to_quats(T_body[..., :3, :3])[..., None, :]
    blended = normalize_quats(q_body + w * (q_head - q_body))
    quats = multiply_quats(blended, cloud.quats.expand_as(blended))
    degree = round(cloud.sh.shape[-2] ** 0.5) - 1
    colours = cloud.sh
    if degree > 0:
        turn = spherical_harmonics.rotation_matrices(T_body[..., :3, :3], degree)[..., 1:, 1:]
        rest = cloud.sh[..., 1:, :]
        # [*b, N, 3, K - 1]: one large product instead of N small ones
        by_channel = rest.transpose(-1, -2)
        turned = (
            (by_channel.flatten(-3, -2) @ turn.transpose(-1, -2))
            .reshape(by_channel.shape)
            .transpose(-1, -2)
        )
        colours = torch.cat([cloud.sh[..., :1, :], turned + w[..., None] * (rest - turned)], -2)
    return dataclasses.replace(cloud, means=means, quats=quats, sh=colours)


def compile_kernels() -> None:
    """Compiles what ``blend_two_frames`` needs on the CPU (seconds, once; then kept on disk): call
    it before a fit."""
    leaves = torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1, 1, 3), torch.zeros(1)
    eye = torch.eye(4)
    results = _Blend.apply(*(leaf.requires_grad_() for leaf in leaves), eye, eye)
    sum(result.sum() for result in results).backward()


class _Blend(torch.autograd.Function):
    """Means, quaternions and harmonics of one cloud, by the kernels; no gradient reaches the
    transforms."""

    @staticmethod
    def forward(
        ctx,
        means: Tensor,
        quats: Tensor,
        sh: Tensor,
        weights: Tensor,
        T_head: Tensor,
        T_body: Tensor,
    ):
        from likeness.ops.deform import skinning_kernels  # numba loads slowly: only when used

        inputs = [tensor.detach().contiguous() for tensor in (means, quats, sh, weights)]
        frames, turn = frame_rows(T_head, T_body), harmonics_turn(T_body, sh.shape[1])
        outputs = [torch.empty_like(tensor) for tensor in inputs[:3]]
        _in_shares(skinning_kernels.blend, len(means), [*inputs, frames, turn, *outputs])
        ctx.save_for_backward(*inputs, frames, turn)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor):
        from likeness.ops.deform import skinning_kernels

        saved = ctx.saved_tensors
        gradients = [torch.empty_like(tensor) for tensor in saved[:4]]
        arrays = [*saved, *(tensor.contiguous() for tensor in upstream), *gradients]
        _in_shares(skinning_kernels.blend_backward, len(saved[0]), arrays)
        return *gradients, None, None


def frame_rows(*transforms: Tensor) -> Tensor:
    """Transforms [4, 4] as the kernels read them, [*, 16]."""
    rows = []
    for transform in transforms:
        T = transform.detach().tolist()
        rotation = [value for row in T[:3] for value in row[:3]]
        rows.append([*rotation, *(row[3] for row in T[:3]), *_quaternion(*rotation)])
    return torch.tensor(rows)


def _quaternion(r00, r01, r02, r10, r11, r12, r20, r21, r22) -> list[float]:
    """``likeness.scene.transforms.matrices_to_quats`` of one matrix, in Python's numbers: thirty
    times faster than tensors."""
    a, b, c, d, e, f = r21 - r12, r02 - r20, r10 - r01, r10 + r01, r02 + r20, r21 + r12
    candidates = [
        [1 + r00 + r11 + r22, a, b, c],
        [a, 1 + r00 - r11 - r22, d, e],
        [b, d, 1 - r00 + r11 - r22, f],
        [c, e, f, 1 - r00 - r11 + r22],
    ]
    best = max(range(4), key=lambda k: candidates[k][k])
    scale = math.copysign(1 / max(math.hypot(*candidates[best]), 1e-12), candidates[best][0])
    return [scale * value for value in candidates[best]]


def harmonics_turn(T_body: Tensor, coefficients: int) -> Tensor:
    """What turns the harmonics above the constant one with a transform [4, 4], [K - 1, K - 1]; none
    for K of 1."""
    degree = round(coefficients**0.5) - 1
    if degree == 0:
        return T_body.new_empty(0, 0)
    if degree == 1:  # as -y, z and -x turn
        rows = T_body.detach().tolist()
        return T_body.new_tensor([[s * t * rows[i][j] for j, t in _LINEAR] for i, s in _LINEAR])
    return spherical_harmonics.rotation_matrices(T_body.detach()[:3, :3], degree)[
        1:, 1:
    ].contiguous()


def _in_shares(kernel, count: int, tensors: list[Tensor]) -> None:
    arrays = [tensor.numpy() for tensor in tensors]
    run_rows(lambda first, last: kernel(first, last, *arrays), count)
