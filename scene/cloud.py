"""The Gaussian cloud: what an avatar gives and a renderer takes. Always activated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from likeness.scene.checks import check_same_batch, check_shape
from likeness.scene.records import TensorRecord


@dataclasses.dataclass(frozen=True, repr=False)
class GaussianCloud(TensorRecord):
    """N three-dimensional Gaussians with leading batch dimensions, with nothing left to activate.

    means: [*b, N, 3] metres, in the frame that the camera's world is (for avatars: the head frame).
    quats: [*b, N, 4] wxyz; renderers normalise them.
    scales: [*b, N, 3] standard deviations in metres, positive.
    opacities: [*b, N] in [0, 1].
    sh: [*b, N, K, 3] spherical harmonics of the colour, K = (degree + 1)².
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor

    def __post_init__(self) -> None:
        owner = "GaussianCloud"
        batches = {
            "means": check_shape(owner, "means", self.means, ("N", 3)),
            "quats": check_shape(owner, "quats", self.quats, ("N", 4)),
            "scales": check_shape(owner, "scales", self.scales, ("N", 3)),
            "opacities": check_shape(owner, "opacities", self.opacities, ("N",)),
            "sh": check_shape(owner, "sh", self.sh, ("N", "K", 3)),
        }
        check_same_batch(owner, batches)
        counts = {
            "means": self.means.shape[-2],
            "quats": self.quats.shape[-2],
            "scales": self.scales.shape[-2],
            "opacities": self.opacities.shape[-1],
            "sh": self.sh.shape[-3],
        }
        if len(set(counts.values())) > 1:
            raise ValueError(f"{owner}: the fields hold different numbers of Gaussians: {counts}")
        if self.sh.shape[-2] not in (1, 4, 9, 16):
            raise ValueError(
                f"{owner}.sh: expected 1, 4, 9 or 16 coefficients, got {self.sh.shape[-2]}"
            )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[:-2])

    @property
    def num_gaussians(self) -> int:
        return self.means.shape[-2]

    @classmethod
    def cat(cls, clouds: Sequence[GaussianCloud]) -> GaussianCloud:
        """All Gaussians of clouds of one batch shape. Harmonics of a lower degree than the highest
        are padded with zeros."""
        most = max(cloud.sh.shape[-2] for cloud in clouds)
        padded = [
            dataclasses.replace(cloud, sh=pad(cloud.sh, (0, 0, 0, most - cloud.sh.shape[-2])))
            for cloud in clouds
        ]
        dim = len(clouds[0].batch_shape)
        return cls._joined(lambda tensors: torch.cat(tensors, dim), padded)

    def select(self, index: Tensor | slice) -> GaussianCloud:
        """Some of the Gaussians, by indices, a mask [N] or a slice, in every item of the batch."""
        return self.map(lambda tensor: tensor[(slice(None),) * len(self.batch_shape) + (index,)])

    def __getitem__(self, index: Any) -> GaussianCloud:
        """Part of the batch; ``select`` takes part of the Gaussians."""
        if not self.batch_shape:
            raise IndexError("GaussianCloud: this cloud has no batch dimension to index")
        return self.map(lambda tensor: tensor[index])

    def expand(self, *batch: int) -> GaussianCloud:
        """An unbatched cloud as a batch that shares memory."""
        return self.map(lambda tensor: tensor.expand(*batch, *tensor.shape))
