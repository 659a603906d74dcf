"""The tracking cloud in the frames of a batch: moved by expressions and sway, between a head and a
body."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.ops.deform.secondary_motion import apply_secondary_motion_torch, constants
from likeness.ops.deform.skinning import blend_two_frames_torch
from likeness.ops.threads import run_rows, run_shares, share, suit_kernels
from likeness.scene.cloud import GaussianCloud
from likeness.scene.lattice import COLUMNS, ROWS
from likeness.scene.transforms import make_transform, matrices_to_quats, rotvecs_to_matrices

UNIT_M = 0.1
"""Metres of a correction's translation by 1, so that it and a radian move pixels alike."""


def resting_frames(T_head_body: Tensor) -> Tensor:
    """[B, 2, 16], what ``posed`` corrects: the identity for the head, T_head_body [B, 4, 4] for the
    body; rotation by rows, translation, unit quaternion."""
    T = torch.stack([torch.eye(4).to(T_head_body).expand_as(T_head_body), T_head_body], 1)
    rotations = T[..., :3, :3]
    return torch.cat([rotations.flatten(2), T[..., :3, 3], matrices_to_quats(rotations)], -1)


def transforms(corrections: Tensor) -> Tensor:
    """[*b, 4, 4] from rotation vectors in radians and translations in units of UNIT_M, [*b, 6]."""
    return make_transform(rotvecs_to_matrices(corrections[..., :3]), corrections[..., 3:] * UNIT_M)


def posed(
    cloud: GaussianCloud,
    weights: Tensor,
    shift: Tensor,
    corrections: Tensor,
    frames: Tensor,
    sway: Tensor,
) -> GaussianCloud:
    """A cloud [N] at rest in B frames, as [B, N].

    weights: [N] of the head. shift: [B, N, 3] metres, how expressions move the means. corrections:
    [B, 12] of head and body (``transforms``), each in its own frame; they act before ``frames``
    (``resting_frames``). sway: [B, C, 2]. Differentiable in all but the frames. The harmonics must
    be constant colours.
    """
    tensors = (*cloud.fields().values(), weights, shift, corrections, frames, sway)
    if not suit_kernels(*tensors):
        return posed_torch(cloud, weights, shift, corrections, frames, sway)
    means, quats = _Posed.apply(cloud.means, cloud.quats, weights, shift, corrections, frames, sway)
    rest = [
        tensor.expand(len(shift), *tensor.shape)
        for tensor in (cloud.scales, cloud.opacities, cloud.sh)
    ]
    return GaussianCloud(means, quats, *rest)


def posed_torch(
    cloud: GaussianCloud,
    weights: Tensor,
    shift: Tensor,
    corrections: Tensor,
    frames: Tensor,
    sway: Tensor,
) -> GaussianCloud:
    """``posed`` in plain PyTorch operations, on any device."""
    T_rest = make_transform(frames[..., :9].unflatten(-1, (3, 3)), frames[..., 9:12])
    T = T_rest @ transforms(corrections.unflatten(-1, (2, 6)))
    moved = cloud.expand(len(shift))
    moved = GaussianCloud(
        **{**moved.fields(), "means": apply_secondary_motion_torch(cloud.means + shift, sway)}
    )
    return blend_two_frames_torch(moved, T[:, 0], T[:, 1], weights)


class _Posed(torch.autograd.Function):
    """Means and quaternions by the kernels: the Gaussians are shared out, each in all frames."""

    @staticmethod
    def forward(ctx, means, quats, weights, shift, corrections, resting, sway):
        from likeness.ops.deform import batched_kernels  # numba loads slowly: only when used

        batch, count, _ = shift.shape
        corrections, resting = (
            t.detach().contiguous().reshape(batch, 2, -1) for t in (corrections, resting)
        )
        frames = torch.empty(batch, 2, 16)
        batched_kernels.place_frames(corrections.numpy(), resting.numpy(), UNIT_M, frames.numpy())
        sheets = sway.detach().contiguous().view(batch, ROWS, COLUMNS, 2)
        inputs = [
            *(t.detach().contiguous() for t in (means, quats, weights[:, None], shift)),
            frames,
            sheets,
        ]
        *outputs, apply_secondary_motion = (
            torch.empty(batch, count, columns) for columns in (3, 4, 2)
        )
        arrays = (
            *(t.numpy() for t in inputs),
            constants(),
            *(t.numpy() for t in (*outputs, apply_secondary_motion)),
        )
        run_rows(lambda first, last: batched_kernels.pose(first, last, *arrays), count)
        ctx.save_for_backward(*inputs, apply_secondary_motion, corrections, resting)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, by_means, by_quats):
        from likeness.ops.deform import batched_kernels

        *inputs, apply_secondary_motion, corrections, resting = ctx.saved_tensors
        frames, sheets = inputs[4:]
        upstream = apply_secondary_motion, by_means.contiguous(), by_quats.contiguous()
        arrays = *(t.numpy() for t in inputs), constants(), *(t.numpy() for t in upstream)
        gradients = [torch.empty_like(t) for t in inputs[:4]]
        outputs, shares, count = (
            [t.numpy() for t in gradients],
            torch.get_num_threads(),
            len(inputs[0]),
        )
        g_frames, g_sheets = (
            torch.zeros(shares, len(frames), 32),
            torch.zeros(shares, *sheets.shape),
        )
        sums = g_frames.numpy(), g_sheets.numpy()
        run_shares(
            lambda t: batched_kernels.pose_backward(
                *share(count, t, shares), *arrays, *outputs, *(part[t] for part in sums)
            ),
            shares,
        )
        g_corrections = torch.empty_like(corrections)
        batched_kernels.place_frames_backward(
            corrections.numpy(),
            resting.numpy(),
            UNIT_M,
            sums[0].reshape(shares, -1, 2, 16),
            g_corrections.numpy(),
        )
        g_sway = g_sheets.sum(0) if shares > 1 else g_sheets[0]
        g_means, g_quats, g_weights, g_shift = gradients
        return (
            g_means,
            g_quats,
            g_weights[:, 0],
            g_shift,
            g_corrections.flatten(1),
            None,
            g_sway.flatten(1, 2),
        )
