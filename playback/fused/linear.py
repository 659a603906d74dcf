"""A linear avatar, the kind that is exported, by two kernels and two products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from likeness.fitting.avatars import FrozenAvatar
from likeness.fitting.avatars.linear import Linear
from likeness.ops.unit_quaternions import unit_quats
from likeness.playback.fused.shared import Shared
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState

MAX_WIDTH = 256
"""Channels of a coder that one program still holds."""


class FusedLinear:
    """Evaluates one linear avatar. Not for several threads at a time.

    Keeps a copy of the avatar's modes, in the order in which the kernels read them.
    """

    overwrites = False

    @torch.inference_mode(False)  # what is written to at every call may be so in any mode
    @torch.no_grad()
    def __init__(self, avatar: FrozenAvatar) -> None:
        """Raises TypeError where the avatar is of another kind."""
        model = avatar.model
        if not isinstance(model, Linear):
            raise TypeError(f"FusedLinear: expected a linear avatar, got {avatar.kind}")
        p, codes, self._motion = model.per_gaussian, model.config.codes, model.config.motion
        weights, biases = _layers(model.coder, width(model))
        # What there is at codes of 0 comes last, with a code that is always 1: the coder's next
        # output.
        biases[-1, codes] = 1
        self._shared = Shared(avatar, model.config.sh_degree, (weights, biases))
        self._codes = self._shared.codes[: codes + 1]
        start, modes = p["base_looks"], p["look_modes"]
        if self._motion:
            start, modes = pad(start, (0, 9)), torch.cat([modes, p["motion_modes"]], -1)
        modes = torch.cat([modes, start[:, None]], 1)
        self._modes = self._shared.rows(modes.permute(1, 2, 0)).flatten(1)  # [R + 1, C * stride]
        rest = torch.cat([p["means"], unit_quats(p["quats"]), p["log_scales"]], -1)
        self._rest = self._shared.rows(rest.T)

    @torch.no_grad()
    def __call__(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The cloud [N] of one state [] on the avatar's device; the eye does not matter to linear
        avatars."""
        from likeness.playback.fused.kernels.place import place_linear

        shared, coefficients = self._shared, (self._shared.degree + 1) ** 2
        count = shared.count
        sizes = (count, 3), (count, 4), (count, 3), (count,), (count, coefficients, 3)
        fields = [self._rest.new_empty(size) for size in sizes]
        moved = shared.read(state)
        blended = torch.mv(self._modes.T, self._codes)
        changes = shared.changes(state)
        given = blended, self._rest, self._rest if changes is None else changes
        options = {"MOTION": self._motion, "CHANGING": changes is not None}
        shared.place(place_linear, moved, *given, *fields, **options)
        if changes is not None:
            fields[-1][:, 0] += changes[9:, :count].T  # what no frame rotates
        return GaussianCloud(*fields)


def width(avatar: Linear) -> int:
    """Of square matrices that hold the layers of its coder, and one output more: a power of two."""
    sizes = [size for layer in _linear(avatar.coder) for size in layer.weight.shape]
    widest = max(avatar.config.codes + 1, *sizes)
    return max(16, 1 << (widest - 1).bit_length())


def _linear(coder: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in coder if isinstance(layer, nn.Linear)]


def _layers(coder: nn.Sequential, width: int) -> tuple[Tensor, Tensor]:
    """Weights [L, width, width] and biases [L, width], filled up with zeros."""
    layers = [
        (
            pad(layer.weight, (0, width - layer.in_features, 0, width - layer.out_features)),
            pad(layer.bias, (0, width - layer.out_features)),
        )
        for layer in _linear(coder)
    ]
    weights, biases = zip(*layers)
    return torch.stack(weights), torch.stack(biases)
