"""An avatar held where its recording never looked: its colours by ``seen.views``, what hides by
``seen.gaussians``.

From within the recording's views it is the plain avatar. Players do this when they are asked to
(``hold``), for people who look on; whatever measures an avatar takes the plain one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likeness.playback.view_clamp.gaussians import ClampedGaussians
from likeness.playback.view_clamp.views import SeenViews, seen_from
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState

if TYPE_CHECKING:
    from likeness.playback.player import Player


class ViewClampedAvatar:
    """The clouds of a player's avatar, held."""

    def __init__(self, player: Player, gaussians: ClampedGaussians | None = None) -> None:
        """gaussians: which of them the recording shows; found when first needed if None."""
        self._player, self._gaussians = player, gaussians
        self._views = SeenViews(player.bundle, player.device)

    @torch.no_grad()
    def cloud(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The Gaussians [N] of a state [] in the head frame, seen from ``eye`` [3] there; see
        ``Player.cloud``."""
        player, state, eye = (
            self._player,
            state.to(self._player.device),
            eye.to(self._player.device),
        )
        held = self._views.held(state, eye)
        if not held.needed:
            return player.cloud(state, eye)
        weights = player.avatar.head_weights()
        cloud = seen_from(player.cloud(state, held.head_eye), held.eyes(weights))
        return self.gaussians().filled(cloud, held.amount(weights))

    def gaussians(self, progress: bool = False) -> ClampedGaussians:
        """Which of them the recording shows. Looks through it when first called, which takes a few
        seconds."""
        if self._gaussians is None:
            self._gaussians = ClampedGaussians.of(self._player, progress)
        return self._gaussians
