"""Evaluations of frozen avatars on CUDA by kernels in Triton, each for many of PyTorch's
operations.

``likeness.playback.fused.kernels`` alone imports triton, which PyTorch's CUDA builds for Linux
bring along.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.playback.fused.linear import WIDEST, FusedLinear, width
from likeness.playback.fused.placed import FusedPlacing
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState

__all__ = ["FusedLinear", "FusedPlacing", "fused", "why_not"]


def why_not(avatar: AvatarModel) -> str | None:
    """Why an avatar is not evaluated by kernels; None where it can be."""
    anchoring = avatar.anchoring.config
    if avatar.kind == "linear":
        if width(avatar) > WIDEST:
            return f"its coder is wider than {WIDEST}"
    elif not (anchoring.two_frames or anchoring.rigged or anchoring.swaying):
        return f"there are no kernels for '{avatar.kind}' and nothing moves it"
    if anchoring.pose_correction:
        return "there are no kernels for pose corrections"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing"
    return None


def fused(
    avatar: AvatarModel, state: HeadState, eye: Tensor
) -> Callable[[HeadState, Tensor], GaussianCloud]:
    """The evaluation of a frozen avatar by kernels, for states like this one. Raises ValueError
    where ``why_not`` says something."""
    if reason := why_not(avatar):
        raise ValueError(f"fused: {reason}")
    return FusedLinear(avatar) if avatar.kind == "linear" else FusedPlacing(avatar, state, eye)
