"""What an avatar starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import RigBinding


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Gaussians that an avatar starts from, and what they belong to.

    cloud: N Gaussians, unbatched, in the head frame at rest. head_weights: [N] in (0, 1), how much
    each belongs to the head rather than to the body. rig: how they are bound to the head model's
    shapes. features: [N, F] in [0, 1] that a refiner of rendered images reads, None where there
    are none; avatars know nothing of them.
    """

    cloud: GaussianCloud
    head_weights: Tensor
    rig: RigBinding
    features: Tensor | None = None

    @classmethod
    def cat(cls, parts: Sequence[Seeds]) -> Seeds:
        """All Gaussians of seeds of one rig; either all have features or none has."""
        features = [part.features for part in parts if part.features is not None]
        return cls(
            GaussianCloud.cat([part.cloud for part in parts]),
            torch.cat([part.head_weights for part in parts]),
            RigBinding.cat([part.rig for part in parts]),
            torch.cat(features) if features else None,
        )

    def select(self, index: Tensor | slice) -> Seeds:
        """Some of the Gaussians, by indices, a mask [N] or a slice."""
        return Seeds(
            self.cloud.select(index),
            self.head_weights[index],
            self.rig.select(index),
            None if self.features is None else self.features[index],
        )
