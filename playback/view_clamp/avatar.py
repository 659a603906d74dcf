"""An avatar for cameras that leave the views of its recording: its colours by ``view_clamp.views``,
Gaussians that no frame showed by ``view_clamp.gaussians``.

From within the recording's views it is the plain avatar. Players do this when they are asked to
(``clamp_views``), for people who look on; whatever measures an avatar takes the plain one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.playback.view_clamp.gaussians import ClampedGaussians, ClampedPlayer
from likeness.playback.view_clamp.views import RecordedViews, seen_from
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState


class ViewClampedAvatar:
    """The clouds of a player's avatar, clamped."""

    def __init__(self, player: ClampedPlayer, gaussians: ClampedGaussians | None = None) -> None:
        """gaussians: which of them the recording shows; None: looked up when first needed."""
        self._player, self._gaussians = player, gaussians
        self._views = RecordedViews(player.bundle, player.device)

    @torch.no_grad()
    def cloud(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The Gaussians [N] of a state [] in the head frame, seen from ``eye`` [3] there; see
        ``Player.cloud``."""
        player = self._player
        state, eye = state.to(player.device), eye.to(player.device)
        view = self._views.clamped(state, eye)
        if not view.is_outside:
            return player.cloud(state, eye)
        weights = player.avatar.head_weights
        cloud = seen_from(player.cloud(state, view.head_eye), view.eyes(weights))
        return self.gaussians().clamped(cloud, view.amount(weights))

    def gaussians(self, progress: bool = False) -> ClampedGaussians:
        """Which of them the recording shows. Looks through it when first called, which takes a few
        seconds."""
        if self._gaussians is None:
            self._gaussians = ClampedGaussians.of(self._player, progress)
        return self._gaussians
