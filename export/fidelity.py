"""How well one avatar's images agree with another's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.player import Player
from likeness.scene.head_state import HeadState

REFERENCE_DB = 30.0
"""What an avatar of one clip reaches against its person at best: the level at which losses are
stated."""

MAX_LOSS_DB = 0.1
"""What each step of an export (fewer harmonics, fewer bits) may cost at that level."""
_FEW = 6


def some(states: HeadState) -> HeadState:
    """A few of the states [K], evenly spread: enough to choose by."""
    return states[torch.linspace(0, len(states) - 1, min(_FEW, len(states))).round().long()]


def images(bundle: AvatarBundle, states: HeadState) -> Tensor:
    """The avatar at states [K] on white by its default camera, [K, H, W, 3] in [0, 1]."""
    player, white = Player(bundle), torch.ones(3)
    return torch.stack(
        [player.step(states[index], None, white).rgb.clamp(0, 1) for index in range(len(states))]
    )


def agreement(rendered: Tensor, expected: Tensor) -> float:
    """PSNR in dB of images [K, H, W, 3] in [0, 1] over all of them; 120 for equal ones."""
    error = float((rendered.double() - expected.double()).square().mean())
    return -10 * math.log10(max(error, 1e-12))


def loss_db(psnr: float, reference: float = REFERENCE_DB) -> float:
    """How far an avatar at ``reference`` dB of the truth falls, by an error of its own at ``psnr``
    dB that is
    independent of it: 0.1 dB at about 46 dB."""
    return 10 * math.log10(1 + 10 ** ((reference - psnr) / 10))
