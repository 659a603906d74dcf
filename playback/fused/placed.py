"""Any avatar that rig, secondary motion or two frames move: its canonical cloud by PyTorch's
operations, its place by two kernels, for what are a hundred and fifty operations otherwise."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.avatars import FrozenAvatar
from likeness.playback.fused.shared import BLOCK, Shared
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

        cloud, shared = self._avatar.canonical(state, eye), self._shared
        anchoring = shared.anchoring
        given = [tensor.contiguous() for tensor in (cloud.means, cloud.quats, cloud.sh)]
        names = ("means", "quats", "sh") if anchoring.two_frames else ("means",)
        fields = {name: torch.empty_like(tensor) for name, tensor in zip(names, given)}
        with shared.on_device():
            moved = shared.read(state)
            place_cloud[(shared.stride // BLOCK,)](
                shared.state,
                shared.frames,
                moved,
                shared.bound,
                shared.vertices,
                *given,
                *(fields.get(name, given[0]) for name in ("means", "quats", "sh")),
                shared.count,
                shared.stride,
                shared.degree,
                shared.sway,
                anchoring.rigged,
                anchoring.swaying,
                anchoring.two_frames,
                BLOCK,
            )
        return dataclasses.replace(cloud, **fields)
