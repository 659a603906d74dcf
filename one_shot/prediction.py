"""What the network gives for one image, and how it moves."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.ops.deform import deform
from likeness.renderers.screen_refiner import Refinement, ScreenRefiner
from likeness.scene.cloud import GaussianCloud


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Gaussians at rest in the head frame; the N queries first, then unprojected ones.

    cloud: N + L. head_weights: [N + L]. confidence: [N] in [0, 1], how far a query's colour rests
    on a pixel that shows it. offsets: [N, 3] metres off the surface. departures: [N] how far the
    colours of queries that are well seen are from the pixels that show them (0 for the others).
    features: [N + L, F] in [0, 1] for the screen refiner, None where the network gives none.
    """

    cloud: GaussianCloud
    head_weights: Tensor
    confidence: Tensor
    offsets: Tensor
    departures: Tensor
    features: Tensor | None = None

    @property
    def num_queries(self) -> int:
        return len(self.confidence)

    def with_unprojected(
        self, cloud: GaussianCloud, head_weights: Tensor, features: Tensor | None
    ) -> Prediction:
        """The same with further Gaussians behind the queries."""
        if self.features is not None and features is not None:
            features = torch.cat([self.features, features])
        return dataclasses.replace(
            self,
            cloud=GaussianCloud.cat([self.cloud, cloud]),
            head_weights=torch.cat([self.head_weights, head_weights]),
            features=features,
        )

    def posed(self, displacements: Tensor, T_head_body: Tensor) -> GaussianCloud:
        """The cloud in the head frame of another state: as an avatar with a rig and two frames
        moves it.

        displacements: [N, 3] of the queries by the expression. T_head_body: [4, 4].
        """
        rest = self.cloud.num_gaussians - len(displacements)
        return deform(
            self.cloud,
            displacement=torch.nn.functional.pad(displacements, (0, 0, 0, rest)),
            T_body=T_head_body,
            head_weights=self.head_weights,
        )


def refinement(refiner: ScreenRefiner | None, prediction: Prediction) -> Refinement | None:
    """A refiner with the features of a prediction; None without one."""
    if refiner is None:
        return None
    return Refinement.of(refiner, prediction.features, prediction.cloud.num_gaussians)


def to_rest(points: Tensor, head_weights: Tensor, T_head_body: Tensor) -> Tensor:
    """Where points [N, 3] of a state's head frame lie at rest: the inverse of the blend of the two
    frames."""
    w = head_weights[:, None]
    identity = torch.eye(3, dtype=points.dtype, device=points.device)
    matrices = w[..., None] * identity + (1 - w[..., None]) * T_head_body[:3, :3]
    shifted = points - (1 - w) * T_head_body[:3, 3]
    return torch.linalg.solve(matrices, shifted[..., None])[..., 0]
