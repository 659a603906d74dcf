"""Flat Gaussians that lie on a surface."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.ops import harmonics as spherical_harmonics
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import matrices_to_quats

_FLATNESS = 0.25  # thickness over the smaller of the other two deviations


@dataclasses.dataclass(frozen=True)
class Patches:
    """cloud: N Gaussians of the rest head. vertices [N, 3], weights [N, 3]: the mesh's corners that
    they are tied to; vertices -1 where they are not on the mesh. head_weights: [N]."""

    cloud: GaussianCloud
    vertices: Tensor
    weights: Tensor
    head_weights: Tensor

    @classmethod
    def join(cls, parts: Sequence[Patches]) -> Patches:
        fields = [part.cloud.fields() for part in parts]
        cloud = GaussianCloud(
            **{name: torch.cat([each[name] for each in fields]) for name in fields[0]}
        )
        rest = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("vertices", "weights", "head_weights")
        )
        return cls(cloud, *rest)


def flat_cloud(
    points: Tensor,
    normals: Tensor,
    along: Tensor,
    sizes: Tensor,
    colours: Tensor,
    opacities: Tensor,
) -> GaussianCloud:
    """Gaussians at points [N, 3], flat along unit normals [N, 3]. along [N, 3]: a direction that is
    turned into the surface, of the first deviation; sizes [N, 2]: deviations in metres along it and
    across; colours [N, 3]."""
    normalize = torch.nn.functional.normalize
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
        opacities.float(),
        spherical_harmonics.from_rgb(colours.float())[:, None],
    )
