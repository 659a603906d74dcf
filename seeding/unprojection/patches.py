"""Flat Gaussians that lie on a surface."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.ops import harmonics
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import matrices_to_quats

OPACITY = 0.95
SPREAD = 0.55  # deviation of a patch over the spacing of patches on a grid
_FLATNESS = 0.25  # thickness over the smaller of the other two deviations


def flat_cloud(
    points: Tensor,
    normals: Tensor,
    sizes: Tensor,
    colours: Tensor,
    along: Tensor | None = None,
    opacities: Tensor | float = OPACITY,
) -> GaussianCloud:
    """Gaussians at points [N, 3], flat along unit normals [N, 3], with colours [N, 3].

    sizes: [N, 2] deviations in metres on the surface; the first is of the direction ``along``
        [N, 3], projected onto it (any direction without), the other across.
    """
    normalize = torch.nn.functional.normalize
    along = torch.zeros_like(normals) if along is None else along
    tangent = along - (along * normals).sum(-1, keepdim=True) * normals
    other = torch.eye(3)[normals.abs().argmin(-1)]
    usable = tangent.norm(dim=-1, keepdim=True) > 1e-4
    tangent = normalize(torch.where(usable, tangent, torch.linalg.cross(normals, other)), dim=-1)
    frame = torch.stack([tangent, torch.linalg.cross(normals, tangent), normals], -1)
    thickness = (_FLATNESS * sizes.amin(-1, keepdim=True)).clamp_min(1e-4)
    return GaussianCloud(
        points.float(),
        matrices_to_quats(frame).float(),
        torch.cat([sizes, thickness], -1).float(),
        torch.as_tensor(opacities).float().expand(len(points)),
        harmonics.from_rgb(colours.float())[:, None],
    )
