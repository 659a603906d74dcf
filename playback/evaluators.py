"""What evaluates an avatar on CUDA: PyTorch's operations one after the other, or whatever launches
less. Nobody can know beforehand which works on a machine, and what it gains there:
``choose_evaluator`` tries them when a player is made."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from likeness.fitting.avatars import FrozenAvatar
from likeness.fitting.networks.choice import Choice, largest_difference, milliseconds
from likeness.playback.fused import fused, why_not
from likeness.playback.graphs import GraphedAvatar
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState

log = logging.getLogger(__name__)

Evaluation = Literal["torch", "graph", "fused", "compiled"]
"""torch: PyTorch's operations. graph: these as a CUDA graph. fused: by the kernels of
``likeness.playback.fused``, with what operations are left as a CUDA graph. compiled: by
``torch.compile``, as a CUDA graph."""
EVALUATIONS: tuple[Evaluation, ...] = get_args(Evaluation)

EVALUATION = "evaluation"
"""What a player's ``choices`` call the choice of ``choose_evaluator``, beside those of networks."""
TOLERANCE = 1e-4
"""Most that a cloud may differ from PyTorch's, as a share of the largest value of each of its
fields."""


class Evaluator(Protocol):
    """From one state [] and eye [3] on its device to the cloud [N] of an avatar."""

    @property
    def overwrites(self) -> bool:
        """Whether a call overwrites the clouds that earlier calls gave."""
        ...

    def __call__(self, state: HeadState, eye: Tensor, /) -> GaussianCloud: ...


def make_evaluator(
    name: Evaluation, avatar: FrozenAvatar, state: HeadState, eye: Tensor
) -> Evaluator:
    """One of EVALUATIONS for an avatar on CUDA and states like this one. Raises where it does not
    work."""
    if name == "graph":
        return GraphedAvatar(avatar, state, eye)
    if name == "fused":
        return fused(avatar, state, eye)
    if name == "compiled":
        return GraphedAvatar(compiled(avatar, state, eye), state, eye)
    return avatar


def compiled(
    avatar: FrozenAvatar, state: HeadState, eye: Tensor, backend: str = "inductor"
) -> Callable[[HeadState, Tensor], GaussianCloud]:
    """The evaluation of an avatar as one graph of operations by ``torch.compile``, which makes
    neighbouring operations one kernel each, for states of the shapes of this one.

    It is compiled at its first call, for half a minute or more. backend: of ``torch.compile``; for
    Inductor on CUDA the package triton must be there, else raises RuntimeError.
    """
    on_cuda = eye.device.type == "cuda"
    if backend == "inductor" and on_cuda and importlib.util.find_spec("triton") is None:
        raise RuntimeError("the package triton is missing")
    avatar(state, eye)  # what is computed once is there, and no part of the graph

    def evaluate(state: HeadState, eye: Tensor) -> GaussianCloud:
        return avatar(state, eye)

    return torch.compile(evaluate, fullgraph=True, dynamic=False, backend=backend)


@torch.no_grad()
def choose_evaluator(
    avatar: FrozenAvatar, state: HeadState, other: HeadState, eye: Tensor, compile: bool = False
) -> tuple[Choice, Evaluator]:
    """Chooses what evaluates an avatar on CUDA: the fastest that works and gives the clouds of
    PyTorch's operations. Never raises.

    state: what they are timed with. other: another state, with which they are compared as well.
    compile: whether ``torch.compile`` is tried, which takes a minute.
    """
    candidates: list[Evaluation] = ["graph"]
    if why_not(avatar.model) is None:
        candidates.append("fused")
    if compile:
        candidates.append("compiled")
    evaluators: dict[str, Evaluator] = {"torch": avatar}
    differences, notes = {"torch": 0.0}, []
    for name in candidates:
        try:
            evaluator = make_evaluator(name, avatar, state, eye)
            difference = max(
                _difference(evaluator(given, eye), avatar(given, eye)) for given in (other, state)
            )
            if difference <= TOLERANCE:  # NaN is not
                evaluators[name], differences[name] = evaluator, difference
            else:
                notes.append(f"{name} would change it by {difference:.2g}")
        # drivers, compilers and libraries fail in many ways: none of them stops a player
        except Exception as error:
            notes.append(f"{name} fails ({' '.join(str(error).split())})")
            log.warning("evaluation: %s; playing without it", notes[-1])
    if len(evaluators) == 1:
        return Choice("torch", "; ".join(notes)), avatar
    times = {
        name: milliseconds(lambda e=e: e(state, eye), eye.device) for name, e in evaluators.items()
    }
    best = min(times, key=times.__getitem__)
    notes.insert(0, "nothing is faster" if best == "torch" else "the fastest")
    return Choice(best, "; ".join(notes), times, max(differences.values())), evaluators[best]


def _difference(cloud: GaussianCloud, expected: GaussianCloud) -> float:
    fields = expected.fields()
    return max(largest_difference(value, fields[name]) for name, value in cloud.fields().items())
