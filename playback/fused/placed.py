"""Any avatar that rig, secondary motion or two frames move: its canonical cloud by PyTorch's
operations, its place by two kernels, for what are a hundred and fifty operations otherwise."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.avatars import FrozenAvatar
from likeness.playback.fused.shared import Shared
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState


class FusedPlacing:
    """Evaluates one avatar. Not for several threads at a time."""

    @torch.inference_mode(False)  # what is written to at every call may be so in any mode
    @torch.no_grad()
    def __init__(self, avatar: FrozenAvatar, state: HeadState, eye: Tensor) -> None:
        self._avatar = avatar
        self._shared = Shared(avatar, round(avatar.canonical(state, eye).sh.shape[-2] ** 0.5) - 1)

    @torch.no_grad()
    def __call__(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The cloud [N] of one state [] on the avatar's device; it may share memory with the
        avatar's parameters."""
        from likeness.playback.fused.kernels.place import place_cloud

        cloud = self._shared.changed(self._avatar.canonical(state, eye), state)
        given = {name: getattr(cloud, name).contiguous() for name in ("means", "quats", "sh")}
        # with one frame only means change
        moving = given if self._avatar.head_weights is not None else ("means",)
        fields = {name: torch.empty_like(given[name]) for name in moving}
        outputs = (given | fields).values()
        moved = self._shared.read(state)
        self._shared.place(place_cloud, moved, *given.values(), *outputs)
        return dataclasses.replace(cloud, **fields)
