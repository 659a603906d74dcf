"""An avatar's evaluation by ``torch.compile``: neighbouring operations become one kernel each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState


def compiled(
    avatar: AvatarModel, state: HeadState, eye: Tensor, backend: str = "inductor"
) -> Callable[[HeadState, Tensor], GaussianCloud]:
    """The evaluation of a frozen avatar as one graph of operations, for states of the shapes of
    this one.

    It is compiled at its first call, for half a minute or more. backend: of ``torch.compile``; for
    Inductor on CUDA the package triton must be there, else raises RuntimeError.
    """
    if (
        backend == "inductor"
        and eye.device.type == "cuda"
        and importlib.util.find_spec("triton") is None
    ):
        raise RuntimeError("the package triton is missing")
    avatar(state, eye)  # what is computed once is there, and no part of the graph

    def evaluate(state: HeadState, eye: Tensor) -> GaussianCloud:
        return avatar(state, eye)

    return torch.compile(evaluate, fullgraph=True, dynamic=False, backend=backend)
