"""Gaussians that no picture of a recording shows have the colours of those nearby that it shows,
and are not large.

What lies hidden behind the surface gets no gradient from any picture: colours and lengths are left
where chance put them, and come to light as stains and needles when the camera leaves the
recording's views.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from likeness.ops import harmonics
from likeness.renderers import constants
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import transform_points

if TYPE_CHECKING:
    from likeness.playback.player import Player

_VIEWS = 16
"""Frames of the recording, evenly spread, that are looked at."""
_SHOWN = 0.2
"""Share of its footprint that a Gaussian must show in one of them to have a colour of its own."""
_NEIGHBOURS = 8
LONGEST_M = 0.01
"""Metres: standard deviations of Gaussians that were never shown go no further."""


@dataclasses.dataclass(frozen=True)
class ClampedGaussians:
    """Which Gaussians of an avatar its recording shows.

    confidence: [N] from 0, never shown, to 1. neighbours: [N, k] indices of the nearest ones of
        confidence 1.
    """

    confidence: Tensor
    neighbours: Tensor

    @classmethod
    def of(cls, player: Player, progress: bool = False) -> ClampedGaussians:
        """Those of a player's avatar. It looks through the recording (progress: and says so on a
        terminal), unless the bundle says that all of it is meant to be seen."""
        if player.bundle.extrapolates:
            confidence = torch.ones(player.avatar.num_gaussians, device=player.device)
        else:
            confidence = (_shown(player, progress) / _SHOWN).clamp(0, 1)
        sure = (confidence >= 1).nonzero()[:, 0]
        return cls(confidence, _nearest(_at_rest(player), sure))

    def filled(self, cloud: GaussianCloud, amount: Tensor | float) -> GaussianCloud:
        """A cloud [] of one colour for each Gaussian, where the unsure ones have their neighbours'
        colours and bounded lengths.

        amount: [N] or one number from 0, nothing, to 1, in full.
        """
        if not self.neighbours.shape[1]:
            return cloud
        share = (amount * (1 - self.confidence))[:, None]
        own = cloud.sh[:, 0]
        colours = own + share * (own[self.neighbours].mean(1) - own)
        excess = (cloud.scales.log() - math.log(LONGEST_M)).clamp_min(0)
        return dataclasses.replace(
            cloud, sh=colours[:, None], scales=cloud.scales * (-share * excess).exp()
        )


def _shown(player: Player, progress: bool) -> Tensor:
    """[N] the largest share of a Gaussian's opacity and footprint that any looked-at frame of the
    recording shows."""
    recording = player.bundle.recording
    best = torch.zeros(player.avatar.num_gaussians, device=player.device)
    chosen = np.linspace(0, len(recording) - 1, min(_VIEWS, len(recording))).round().astype(int)
    shown = tqdm(
        chosen,
        "looking through the recording",
        unit="frame",
        disable=None if progress else True,
        leave=False,
    )
    for index in shown:
        state = recording[int(index)].to(player.device)
        camera = player.camera.in_frame(state.T_world_head)
        with torch.no_grad():
            cloud = player.cloud(state, camera.center)
        # The sum of a picture changes with a Gaussian's colour by the sum of its weights over the
        # pixels.
        grey = harmonics.from_rgb(torch.full_like(cloud.means, 0.5))[:, None].requires_grad_()
        with torch.enable_grad():
            player.renderer.render(dataclasses.replace(cloud, sh=grey), camera).rgb[
                ..., 0
            ].sum().backward()
        weights = grey.grad[:, 0, 0] / harmonics.C0
        best = torch.maximum(best, weights / _footprint(cloud, camera))
    return best


def _footprint(cloud: GaussianCloud, camera: Camera) -> Tensor:
    """[N] about the sum of a lone Gaussian's weights over the pixels, seen along its shortest
    axis."""
    depth = transform_points(camera.T_cam_world, cloud.means)[:, 2].clamp_min(constants.NEAR)
    focal = camera.K[0, 0] * camera.K[1, 1]
    longest = cloud.scales.sort(-1).values[:, 1:].prod(-1)
    return (
        cloud.opacities.clamp_min(0.01)
        * 2
        * math.pi
        * (longest * focal / depth**2 + constants.EPS2D)
    )


def _at_rest(player: Player) -> Tensor:
    state = player.bundle.default_state.to(player.device)
    with torch.no_grad():
        return player.cloud(state, player.camera.in_frame(state.T_world_head).center).means


def _nearest(means: Tensor, sure: Tensor) -> Tensor:
    """[N, k] indices of the nearest of the Gaussians ``sure``; k is 0 where there are none."""
    from scipy.spatial import cKDTree

    count = min(_NEIGHBOURS, len(sure))
    if count == 0:
        return torch.zeros(len(means), 0, dtype=torch.long, device=means.device)
    points = means.cpu().numpy()
    _, found = cKDTree(points[sure.cpu().numpy()]).query(points, k=count)
    return sure[torch.from_numpy(found.reshape(len(points), count)).to(sure.device)]
