"""An avatar's evaluation as a CUDA graph: one launch for a hundred small kernels.

The rasteriser is not part of it: how many tiles Gaussians meet decides the size of its lists, which
gsplat reads back to the host in the middle of every image. ``python -m benchmarks.playback
--evaluations torch graph`` shows what it gains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState

_WARM_UPS = 3  # PyTorch's advice: allocations and library handles must exist before a capture


class GraphedAvatar:
    """Evaluates one avatar on CUDA by replaying what its first evaluation did.

    Every state must have the shapes of the one it was made with. The avatar's tensors must stay
    where they are. Not for several threads at a time: all replays share their memory, and so do the
    clouds that they give.
    """

    overwrites = True

    def __init__(
        self, avatar: Callable[[HeadState, Tensor], GaussianCloud], state: HeadState, eye: Tensor
    ) -> None:
        """avatar: a FrozenAvatar, or another function that evaluates it. Raises ValueError where
        the state is not on CUDA."""
        devices = state.expression.device, eye.device
        if any(device.type != "cuda" for device in devices):
            raise ValueError(
                f"GraphedAvatar: expected states on CUDA, got {devices[0]} and {devices[1]}"
            )
        self._graph = torch.cuda.CUDAGraph()
        # what is replayed into may be written to by anybody later
        with torch.inference_mode(False), torch.no_grad():
            self._state, self._eye = state.map(torch.clone), eye.clone()
            # Beside the current stream, as captures need it; PyTorch's caching allocator follows.
            side = torch.cuda.Stream(eye.device)
            side.wait_stream(torch.cuda.current_stream(eye.device))
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    avatar(self._state, self._eye)
            torch.cuda.current_stream(eye.device).wait_stream(side)
            # On the stream of the warm-up: libraries that keep memory by stream (tiny-cuda-nn) make
            # it when they first see one, which a capture does not allow. Only what this thread does
            # may end the capture: a fit may go on beside a viewer.
            with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                self._cloud = avatar(self._state, self._eye)

    @torch.no_grad()
    def __call__(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The cloud of one state [] on CUDA, which the next call overwrites."""
        names = [field.name for field in dataclasses.fields(state)]
        own, given = ([getattr(s, name) for name in names] for s in (self._state, state))
        copy = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
        copy([*own, self._eye], [*given, eye])  # one launch for the six
        self._graph.replay()
        return self._cloud
