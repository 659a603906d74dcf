"""Evaluations of avatars on CUDA by kernels in Triton, each for many of PyTorch's operations.

``likeness.playback.fused.kernels`` alone imports triton, which PyTorch's CUDA builds for Linux
bring along. A player takes them where they are faster on its machine
(``likeness.playback.evaluators``); ``python -m benchmarks.playback --evaluations torch fused``
compares them.
"""

from __future__ import annotations

import importlib.util

from torch import Tensor

from likeness.fitting.avatars import AvatarModel, FrozenAvatar
from likeness.fitting.avatars.linear import Linear
from likeness.playback.fused.linear import MAX_WIDTH, FusedLinear, width
from likeness.playback.fused.placed import FusedPlacing
from likeness.playback.graphs import GraphedAvatar
from likeness.scene.head_state import HeadState

__all__ = ["FusedLinear", "FusedPlacing", "fused", "why_not"]


def why_not(avatar: AvatarModel) -> str | None:
    """Why an avatar is not evaluated by kernels; None where it can be."""
    anchoring = avatar.config.anchoring
    if isinstance(avatar, Linear):
        if width(avatar) > MAX_WIDTH:
            return f"its coder is wider than {MAX_WIDTH}"
    elif not (anchoring.two_frames or anchoring.rigged or anchoring.swaying):
        return f"there are no kernels for '{avatar.kind}' and nothing moves it"
    if anchoring.pose_correction:
        return "there are no kernels for pose corrections"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing"
    return None


def fused(avatar: FrozenAvatar, state: HeadState, eye: Tensor) -> FusedLinear | GraphedAvatar:
    """The evaluation of an avatar by kernels, for states like this one; the operations that are
    left are a CUDA graph. Raises ValueError where ``why_not`` gives a reason."""
    if reason := why_not(avatar.model):
        raise ValueError(f"fused: {reason}")
    if isinstance(avatar.model, Linear):
        return FusedLinear(avatar)
    return GraphedAvatar(FusedPlacing(avatar, state, eye), state, eye)
