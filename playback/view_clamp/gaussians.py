"""Gaussians that no frame of a recording shows take the colours of those nearby that it shows, and
are shrunk so that they do not streak.

What lies hidden behind the surface gets no gradient from any frame: colours and lengths are left
where chance put them, and appear as stains and needles when the camera leaves the recording's
views.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from likeness.fitting.avatars import FrozenAvatar
from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics
from likeness.renderers import Renderer, constants
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import transform_points

_VIEWS = 16
"""Frames of the recording, evenly spread, that are rendered."""
_SHOWN = 0.2
"""Share of its footprint that a Gaussian must show in one of them to have a colour of its own."""
_NEIGHBOURS = 8
MAX_HIDDEN_M = 0.01
"""Metres: the largest standard deviation of Gaussians that were never shown."""


class ClampedPlayer(Protocol):
    """What is needed of a Player."""

    bundle: AvatarBundle
    avatar: FrozenAvatar
    renderer: Renderer
    camera: Camera
    device: torch.device

    def cloud(self, state: HeadState, eye: Tensor) -> GaussianCloud: ...


@dataclasses.dataclass(frozen=True)
class ClampedGaussians:
    """Which Gaussians of an avatar its recording shows.

    confidence: [N] from 0, never shown, to 1. neighbours: [N, k] indices of the nearest ones of
        confidence 1.
    """

    confidence: Tensor
    neighbours: Tensor

    @classmethod
    def of(cls, player: ClampedPlayer, progress: bool = False) -> ClampedGaussians:
        """Those of a player's avatar. Renders frames of the recording (progress: with a bar on a
        terminal), unless the bundle says that all of it is meant to be seen."""
        if player.bundle.extrapolates:
            confidence = torch.ones(player.avatar.num_gaussians, device=player.device)
        else:
            confidence = (_shown_shares(player, progress) / _SHOWN).clamp(0, 1)
        sure = (confidence >= 1).nonzero()[:, 0]
        return cls(confidence, _nearest(_neutral_means(player), sure))

    def clamped(self, cloud: GaussianCloud, amount: Tensor | float) -> GaussianCloud:
        """A cloud [] of one colour for each Gaussian, where the unsure ones have their neighbours'
        colours and bounded lengths.

        amount: [N] or one number from 0, nothing, to 1, in full.
        """
        if not self.neighbours.shape[1]:
            return cloud
        share = (amount * (1 - self.confidence))[:, None]
        own = cloud.sh[:, 0]
        colours = own + share * (own[self.neighbours].mean(1) - own)
        excess = (cloud.scales.log() - math.log(MAX_HIDDEN_M)).clamp_min(0)
        scales = cloud.scales * (-share * excess).exp()
        return dataclasses.replace(cloud, sh=colours[:, None], scales=scales)


def _shown_shares(player: ClampedPlayer, progress: bool) -> Tensor:
    """[N] the largest share of a Gaussian's opacity and footprint that any rendered frame of the
    recording shows."""
    recording = player.bundle.recording
    best = torch.zeros(player.avatar.num_gaussians, device=player.device)
    chosen = np.linspace(0, len(recording) - 1, min(_VIEWS, len(recording))).round().astype(int)
    what, hidden = "looking through the recording", None if progress else True
    for index in tqdm(chosen.tolist(), what, unit="frame", disable=hidden, leave=False):
        state = recording[index].to(player.device)
        camera = player.camera.in_frame(state.T_world_head)
        with torch.no_grad():
            cloud = player.cloud(state, camera.center)
        # The sum of an image changes with a Gaussian's colour by the sum of its weights over the
        # pixels.
        grey = harmonics.from_rgb(torch.full_like(cloud.means, 0.5))[:, None].requires_grad_()
        with torch.enable_grad():
            output = player.renderer.render(dataclasses.replace(cloud, sh=grey), camera)
            (gradient,) = torch.autograd.grad(output.rgb[..., 0].sum(), grey)
        weights = gradient[:, 0, 0] / harmonics.C0
        best = torch.maximum(best, weights / _footprint(cloud, camera))
    return best


def _footprint(cloud: GaussianCloud, camera: Camera) -> Tensor:
    """[N] about the sum of a lone Gaussian's weights over the pixels, seen along its shortest
    axis."""
    depth = transform_points(camera.T_cam_world, cloud.means)[:, 2].clamp_min(constants.NEAR)
    focal = camera.K[0, 0] * camera.K[1, 1]
    longest = cloud.scales.sort(-1).values[:, 1:].prod(-1)
    area = 2 * math.pi * (longest * focal / depth**2 + constants.EPS2D)
    return cloud.opacities.clamp_min(0.01) * area


def _neutral_means(player: ClampedPlayer) -> Tensor:
    state = player.bundle.default_state.to(player.device)
    with torch.no_grad():
        return player.cloud(state, player.camera.in_frame(state.T_world_head).center).means


def _nearest(means: Tensor, sure: Tensor) -> Tensor:
    """[N, k] indices of the nearest of the Gaussians ``sure``; k is 0 where there are none."""
    from scipy.spatial import KDTree

    count = min(_NEIGHBOURS, len(sure))
    if count == 0:
        return torch.zeros(len(means), 0, dtype=torch.long, device=means.device)
    points = means.cpu().numpy()
    _, nearest = KDTree(points[sure.cpu().numpy()]).query(points, k=count)
    return sure[torch.from_numpy(nearest.reshape(len(points), count)).to(sure.device)]
