"""What an avatar starts from."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import RigBinding


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Gaussians that an avatar starts from, and what they belong to.

    cloud: N Gaussians, unbatched, in the head frame at rest. head_weights: [N] in (0, 1), how much
    each belongs to the head rather than to the body. rig: how they are tied to the head model's
    shapes. features: [N, F] in [0, 1] that a refiner of rendered pictures reads, None where there
    are none; avatars know nothing of them.
    """

    cloud: GaussianCloud
    head_weights: Tensor
    rig: RigBinding
    features: Tensor | None = None
