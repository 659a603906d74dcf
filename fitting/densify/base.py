"""What a densifier is: it listens to renderings and now and then says which Gaussians there should
be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.optimizers import Surgery
from likeness.renderers.output import RenderOutput, ScreenRequest
from likeness.scene.cloud import GaussianCloud
from likeness.scene.tensor_files import Array


class Densifier:
    """Grows and prunes the Gaussians of an avatar during a fit. This one leaves them as they
    are."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def wants_screen(self, step: float) -> ScreenRequest:
        """Whether the next rendering must carry ScreenStats, and which; ``step`` in the preset's
        nominal iterations."""
        return False

    def observe(self, output: RenderOutput, cloud: GaussianCloud, image_size: int) -> None:
        """Sees a rendering after the backward pass of its loss, or those of a batch after that of
        their mean loss."""

    def plan(self, step: float, avatar: AvatarModel, generator: torch.Generator) -> Surgery | None:
        """The surgery that is due now, or None. The densifier forgets what it saw when it gives
        one."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        return {}

    def declared(self) -> dict[str, Array]:
        """What a checkpoint may hold for ``load``; N is the number of Gaussians."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes back what ``state`` gave."""
