"""How expressions turn, stretch and light Gaussians where the head model's skin does so
(``RigBinding.changes``), before anything moves.

``changed`` runs kernels (``likeness.ops.rig_changes_cpu``) for single states on a CPU in single
precision, and ``changed_reference`` elsewhere.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.ops.deform import of_gaussians
from likeness.ops.threads import suit_kernels
from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import LARGEST_GROWTH, RigBinding
from likeness.scene.transforms import (
    multiply_quats,
    normalize_quats,
    quats_to_matrices,
    rotvecs_to_quats,
)


def changed(cloud: GaussianCloud, expression: Tensor, rig: RigBinding) -> GaussianCloud:
    """The clouds [*b, N] of canonical ones, [N] or [*b, N], as expressions [*b, E] turn, stretch
    and light them. Differentiable in the cloud; what a stretch along the axes of Gaussians makes of
    their rotations is left out of the gradients."""
    if rig.changes is None:
        return cloud
    fields = cloud.quats, cloud.scales, cloud.sh
    if expression.ndim > 1 or not suit_kernels(*fields, expression, rig.changes, rig.weights):
        return changed_reference(cloud, expression, rig)
    from likeness.ops import rig_changes_cpu  # numba loads slowly: only when used

    quats, scales, sh = rig_changes_cpu.Changed.apply(*fields, of_vertices(expression, rig), rig)
    return dataclasses.replace(cloud, quats=quats, scales=scales, sh=sh)


def of_vertices(expression: Tensor, rig: RigBinding) -> Tensor:
    """What a single expression [E] does at each vertex, [V, CHANGES]."""
    assert rig.changes is not None
    return (expression @ rig.changes.flatten(1)).view(rig.changes.shape[1:])


def compact(rig: RigBinding) -> RigBinding:
    """For ``changed`` alone: the same without vertices at which nothing changes. All of these are
    the last one of its V."""
    if rig.changes is None:
        return rig
    used = rig.changes.abs().amax((0, 2)) > 0
    places = torch.where(used, used.cumsum(0) - 1, used.sum())
    few = torch.nn.functional.pad(rig.changes[:, used], (0, 0, 0, 1))
    return RigBinding(rig.shapes[:, :0], places[rig.vertices], rig.weights, few)


def changed_reference(cloud: GaussianCloud, expression: Tensor, rig: RigBinding) -> GaussianCloud:
    """``changed`` in plain PyTorch operations, on any device and in any precision."""
    if rig.changes is None:
        return cloud
    changes = of_gaussians(expression, rig.changes, rig)
    if cloud.means.ndim != changes.ndim:
        cloud = cloud.expand(*changes.shape[:-2])
    growth = _growth(normalize_quats(cloud.quats.detach()), changes[..., 3:9])
    quats = multiply_quats(rotvecs_to_quats(changes[..., :3]), cloud.quats)
    others = cloud.sh.shape[-2] - 1
    sh = cloud.sh + torch.nn.functional.pad(changes[..., None, 9:], (0, 0, 0, others))
    return dataclasses.replace(cloud, quats=quats, scales=cloud.scales * growth, sh=sh)


def _growth(quats: Tensor, strains: Tensor) -> Tensor:
    """By what factors [..., 3] logarithmic strains [..., 6] stretch the axes of unit quaternions
    [..., 4]."""
    x, y, z = quats_to_matrices(quats).unbind(-2)
    xx, yy, zz, xy, xz, yz = strains[..., None].unbind(-2)
    along = xx * x * x + yy * y * y + zz * z * z + 2 * (xy * x * y + xz * x * z + yz * y * z)
    return along.clamp(-LARGEST_GROWTH, LARGEST_GROWTH).exp()
