"""Gaussian clouds moved by rigid frames."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from scene import sh as spherical_harmonics
from scene.cloud import GaussianCloud
from scene.transforms import matrices_to_quats, multiply_quats, normalize_quats


def move_rigidly(cloud: GaussianCloud, T: Tensor) -> GaussianCloud:
    """The cloud [*b, N] moved by T [*b, 4, 4]. Its harmonics stay: they look into the frame that it is moved in."""
    means = cloud.means @ T[..., :3, :3].transpose(-1, -2) + T[..., None, :3, 3]
    quats = multiply_quats(matrices_to_quats(T[..., :3, :3])[..., None, :].expand_as(cloud.quats), cloud.quats)
    return dataclasses.replace(cloud, means=means, quats=quats)


def blend_two_frames(cloud: GaussianCloud, T_head: Tensor, T_body: Tensor, weights: Tensor) -> GaussianCloud:
    """Linear blend skinning of a cloud [*b, N] between two transforms [*b, 4, 4] that are less than a half turn from
    the identity, with weights [N] of the first."""
    w = weights[:, None]
    head = cloud.means @ T_head[..., :3, :3].transpose(-1, -2) + T_head[..., None, :3, 3]
    body = cloud.means @ T_body[..., :3, :3].transpose(-1, -2) + T_body[..., None, :3, 3]
    means = body + w * (head - body)
    q_head = matrices_to_quats(T_head[..., :3, :3])[..., None, :]
    q_body = matrices_to_quats(T_body[..., :3, :3])[..., None, :]
    blended = normalize_quats(q_body + w * (q_head - q_body))
    quats = multiply_quats(blended, cloud.quats.expand_as(blended))
    # What is fixed to the body keeps its look when the head turns: its harmonics turn with it.
    degree = round(cloud.sh.shape[-2] ** 0.5) - 1
    colours = cloud.sh
    if degree > 0:
        turn = spherical_harmonics.rotation_matrices(T_body[..., :3, :3], degree)[..., 1:, 1:]
        rest = cloud.sh[..., 1:, :]
        by_channel = rest.transpose(-1, -2)  # [*b, N, 3, K - 1]: one large product instead of N small ones
        turned = (by_channel.flatten(-3, -2) @ turn.transpose(-1, -2)).reshape(by_channel.shape).transpose(-1, -2)
        colours = torch.cat([cloud.sh[..., :1, :], turned + w[..., None] * (rest - turned)], -2)
    return dataclasses.replace(cloud, means=means, quats=quats, sh=colours)
