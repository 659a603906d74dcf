"""An avatar's evaluation as a CUDA graph: one launch for a hundred small kernels.

Nobody can know beforehand whether a capture works on a machine, and what it gains there: ``choose_graph`` tries it.

The rasteriser is not part of it: how many tiles Gaussians meet decides the size of its lists, which gsplat reads back
to the host in the middle of every picture.
"""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import Tensor

from fitting.avatars import AvatarModel
from fitting.networks.choice import Choice, largest_difference, milliseconds
from scene.cloud import GaussianCloud
from scene.head_state import HeadState

log = logging.getLogger(__name__)

EVALUATION = "evaluation"
"""What a player's ``choices`` call the choice of ``choose_graph``, beside those of networks."""
TOLERANCE = 1e-4
"""Most that a replayed cloud may differ, as a share of the largest value of each of its fields."""
_WARM_UPS = 3  # PyTorch's advice: allocations and library handles must exist before a capture


class GraphedAvatar:
    """Evaluates one frozen avatar on CUDA by replaying what its first evaluation did.

    Every state must have the shapes of the one it was made with. The avatar's tensors must stay where they are. Not for
    several threads at a time: all replays share their memory.
    """

    def __init__(self, avatar: AvatarModel, state: HeadState, eye: Tensor) -> None:
        """Raises ValueError where the state is not on CUDA."""
        if eye.device.type != "cuda" or state.expression.device.type != "cuda":
            raise ValueError(f"GraphedAvatar: expected states on CUDA, got {state.expression.device} and {eye.device}")
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(False), torch.no_grad():  # what is replayed into may be written to by anybody later
            self._state, self._eye = state.map(torch.clone), eye.clone()
            # Beside the current stream, as captures need it; PyTorch's caching allocator follows.
            side = torch.cuda.Stream(eye.device)
            side.wait_stream(torch.cuda.current_stream(eye.device))
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    avatar(self._state, self._eye)
            torch.cuda.current_stream(eye.device).wait_stream(side)
            # Only what this thread does may end the capture: a fit may go on beside a viewer.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._cloud = avatar(self._state, self._eye)

    @torch.no_grad()
    def __call__(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The cloud of one state; it is the caller's own."""
        for field in dataclasses.fields(state):
            getattr(self._state, field.name).copy_(getattr(state, field.name), non_blocking=True)
        self._eye.copy_(eye, non_blocking=True)
        self._graph.replay()
        return self._cloud.map(torch.clone)


@torch.no_grad()
def choose_graph(
    avatar: AvatarModel, state: HeadState, other: HeadState, eye: Tensor
) -> tuple[Choice, GraphedAvatar | None]:
    """Whether a frozen avatar on CUDA is evaluated by a graph: where it can be captured, gives the same clouds, and is
    faster; None where it is not. Never raises.

    state: what it is captured at and timed with. other: another state, with which it is compared as well.
    """
    try:
        graphed = GraphedAvatar(avatar, state, eye)
        difference = max(_difference(graphed(given, eye), avatar(given, eye)) for given in (other, state))
        if not difference <= TOLERANCE:  # NaN neither
            choice = Choice("torch", f"a CUDA graph would change it by {difference:.2g}", difference=difference)
        else:
            times = {
                "graph": milliseconds(lambda: graphed(state, eye), eye.device),
                "torch": milliseconds(lambda: avatar(state, eye), eye.device),
            }
            faster = times["graph"] < times["torch"]
            backend, reason = ("graph", "a CUDA graph is faster") if faster else ("torch", "a CUDA graph is not faster")
            choice = Choice(backend, reason, times, difference)
    except Exception as error:  # drivers and libraries fail in many ways, and none of them shall stop a player
        choice = Choice("torch", f"a CUDA graph fails ({' '.join(str(error).split())})")
        log.warning("%s; playing without it", choice.reason)
    return choice, graphed if choice.backend == "graph" else None


def _difference(found: GaussianCloud, expected: GaussianCloud) -> float:
    fields = expected.fields()
    return max(largest_difference(value, fields[name]) for name, value in found.fields().items())
