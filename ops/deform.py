"""How Gaussians move: with the face, with hair and clothes, and between head and body.

In this order: a displacement by the expression (``displacement``); secondary motion, a free-form
deformation (Sederberg and Parry, 1986) by a lattice of control points across the head frame whose
offsets along x and y hold at every depth; linear blend skinning between the head's and the body's
transform.

``deform`` runs kernels (``likeness.ops.deform_cpu``) on a CPU in single precision and
``deform_reference`` elsewhere.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.ops import harmonics
from likeness.ops.threads import suit_kernels
from likeness.scene.cloud import GaussianCloud
from likeness.scene.lattice import (
    COLUMNS,
    FACE_EDGE,
    FACE_M,
    FACE_RADII_M,
    HIGH_M,
    LOW_M,
    NUM_POINTS,
    ROWS,
)
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import matrices_to_quats, multiply_quats, normalize_quats


def deform(
    cloud: GaussianCloud,
    *,
    displacement: Tensor | None = None,
    secondary_motion: Tensor | None = None,
    T_head: Tensor | None = None,
    T_body: Tensor | None = None,
    head_weights: Tensor | None = None,
) -> GaussianCloud:
    """The cloud [*b, N] of one that is canonical, [N] or [*b, N]. Differentiable in everything.

    displacement: [*b, N, 3] metres. secondary_motion: [*b, NUM_POINTS, 2] metres, offsets of the
    control points. T_head, T_body: [*b, 4, 4], less than half a rotation from the identity; None:
    the identity. head_weights: [N], how much each Gaussian moves with the head, the rest with the
    body; None: all do.

    Harmonics look into the head's frame: what moves with the body has them rotated by ``T_body``,
    what moves with the head keeps them.
    """
    motion = displacement, secondary_motion, T_head, T_body, head_weights
    if all(part is None for part in motion):
        return cloud
    given = [part for part in motion if part is not None]
    if not suit_kernels(*cloud.fields().values(), *given):
        return deform_reference(cloud, *motion)
    from likeness.ops import deform_cpu  # numba loads slowly: only when used

    return deform_cpu.deform(cloud, *motion)


def deform_reference(
    cloud: GaussianCloud,
    displacement: Tensor | None,
    secondary_motion: Tensor | None,
    T_head: Tensor | None,
    T_body: Tensor | None,
    head_weights: Tensor | None,
) -> GaussianCloud:
    """``deform`` in plain PyTorch operations, on any device and in any precision."""
    means = cloud.means
    if displacement is not None:
        means = means + displacement
    if secondary_motion is not None:
        means = means + lattice_offsets(means, secondary_motion)
    cloud = with_batch(cloud, means)
    if T_head is None and T_body is None:
        return cloud
    identity = torch.eye(4, dtype=means.dtype, device=means.device)
    return _skinned(
        cloud,
        identity if T_head is None else T_head,
        identity if T_body is None else T_body,
        means.new_ones(means.shape[-2]) if head_weights is None else head_weights,
    )


def _skinned(cloud: GaussianCloud, T_head: Tensor, T_body: Tensor, weights: Tensor):
    """Linear blend skinning of means, of quaternions and of harmonics above the constant one."""
    w = weights[:, None]
    head, body = (cloud.means @ T[..., :3, :3].mT + T[..., None, :3, 3] for T in (T_head, T_body))
    q_head, q_body = (matrices_to_quats(T[..., :3, :3])[..., None, :] for T in (T_head, T_body))
    rotation = normalize_quats(q_body + w * (q_head - q_body))
    cloud = with_batch(cloud, body + w * (head - body))
    quats = multiply_quats(rotation.expand_as(cloud.quats), cloud.quats)
    sh, degree = cloud.sh, round(cloud.sh.shape[-2] ** 0.5) - 1
    if degree > 0:
        D = harmonics.rotation_matrices(T_body[..., :3, :3], degree)[..., None, 1:, 1:]
        own = sh[..., 1:, :]
        rotated = D @ own
        sh = torch.cat([sh[..., :1, :], rotated + w[..., None] * (own - rotated)], -2)
    return dataclasses.replace(cloud, quats=quats, sh=sh)


def with_batch(cloud: GaussianCloud, means: Tensor) -> GaussianCloud:
    """The cloud with other means [*b, N, 3], and their batch."""
    if cloud.means.ndim != means.ndim:
        cloud = cloud.expand(*means.shape[:-2])
    return dataclasses.replace(cloud, means=means)


def lattice_offsets(points: Tensor, offsets: Tensor) -> Tensor:
    """How far points [*b, N, 3] move along x, y and z by offsets [*b, NUM_POINTS, 2] of the
    control points, in metres: bilinear between these, constant beyond the lattice, 0 in the
    face."""
    batch = torch.broadcast_shapes(points.shape[:-2], offsets.shape[:-2])
    flat = points.expand(*batch, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    # Numbers, not tensors: those would be copied to a GPU at every step.
    at = [
        2 * (flat[..., axis] - low) / (high - low) - 1
        for axis, (low, high) in enumerate(zip(LOW_M, HIGH_M))
    ]
    lattices = offsets.expand(*batch, NUM_POINTS, 2).reshape(-1, ROWS, COLUMNS, 2)
    moved = torch.nn.functional.grid_sample(
        lattices.permute(0, 3, 1, 2),
        torch.stack(at, -1)[:, None],
        padding_mode="border",
        align_corners=True,
    )
    moved = moved[:, :, 0].mT * _softness(flat)
    return torch.nn.functional.pad(moved, (0, 1)).reshape(*batch, *points.shape[-2:])


def _softness(points: Tensor) -> Tensor:
    """[..., N, 1]: 0 inside the face, 1 well outside of it."""
    parts = [
        ((points[..., axis] - FACE_M[axis]) / FACE_RADII_M[axis]).square() for axis in range(3)
    ]
    distance = (parts[0] + parts[1] + parts[2]).sqrt()
    return ((distance - 1) / FACE_EDGE).clamp(0, 1)[..., None]


def lattice_description() -> dict[str, int | float | list[float]]:
    """The constants of secondary motion, for programs in other languages."""
    return {
        "columns": COLUMNS,
        "rows": ROWS,
        "low_m": list(LOW_M),
        "high_m": list(HIGH_M),
        "face_m": list(FACE_M),
        "radii_m": list(FACE_RADII_M),
        "edge": FACE_EDGE,
    }


def displacement(expression: Tensor, rig: RigBinding) -> Tensor:
    """How far expressions [*b, E] move each Gaussian, [*b, N, 3] metres: the weighed mean over its
    three vertices. What is far from the mesh (hair, clothes) has weights that sum to less than 1.

    On a CPU, RuntimeError where Gaussians are bound to vertices that the rig has not.
    """
    return of_gaussians(expression, rig.shapes, rig)


def of_gaussians(expression: Tensor, shapes: Tensor, rig: RigBinding) -> Tensor:
    """What expressions [*b, E] make of shapes [E, V, C] of a rig's vertices, at each Gaussian:
    [*b, N, C], the weighed mean over its three vertices."""
    count, channels = shapes.shape[1:]
    flat = expression.reshape(-1, expression.shape[-1])
    moved = (flat @ shapes.flatten(1)).view(len(flat), count, channels)
    table = moved.transpose(0, 1).reshape(count, -1)
    result = torch.nn.functional.embedding_bag(
        rig.vertices, table, per_sample_weights=rig.weights, mode="sum"
    )
    result = result.view(-1, len(flat), channels).transpose(0, 1)
    return result.reshape(*expression.shape[:-1], -1, channels)


def shapes_of_gaussians(rig: RigBinding) -> Tensor:
    """How far each coefficient moves each Gaussian, [E, N * 3]: what ``displacement`` blends."""
    return (rig.shapes[:, rig.vertices] * rig.weights[..., None]).sum(2).flatten(1).contiguous()


def compile_kernels() -> None:
    """Compiles what ``deform`` needs on the CPU (seconds, once; then kept on disk): call it before
    a fit."""
    leaves = [torch.ones(1, *size, requires_grad=True) for size in ((3,), (4,), (3,), (), (4, 3))]
    cloud = deform(
        GaussianCloud(*leaves),
        secondary_motion=torch.zeros(NUM_POINTS, 2),
        T_body=torch.eye(4),
        head_weights=torch.zeros(1),
    )
    (cloud.means.sum() + cloud.quats.sum() + cloud.sh.sum()).backward()
