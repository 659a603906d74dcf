"""What happens on the simulated CUDA device (``tests.simulated_cuda``): waits, operations, streams
and events."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

_ROOT = Path(__file__).resolve().parents[1]
_SIMULATION = "simulated_cuda.py", "simulated_device.py"


class DeviceError(RuntimeError):
    """What CUDA would have refused."""


class Device:
    """Which operations made the host wait, each with the line of the project that asked for it."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.operations = 0
        """That the host has asked for, without views: about as many launches."""
        self.refuses_waits = False
        self.tape: list | None = None  # of the graph that is being captured
        self.streams = [Stream(self)]  # the current one is last
        self._pinned: dict[int, Tensor] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def refusing_waits(self) -> Iterator[None]:
        """Inside, what makes the host wait for the device raises, unless it cannot be helped."""
        self.refuses_waits = True
        try:
            yield
        finally:
            self.refuses_waits = False

    def wait(self, what: str, helpless: bool = False) -> None:
        """The host waits for the device. helpless: inside a foreign package, whatever we do: only
        counted, but for a capture, which allows no wait at all."""
        frames = [f for f in traceback.extract_stack() if _is_ours(f.filename)]
        where = (
            f"{Path(frames[-1].filename).relative_to(_ROOT)}:{frames[-1].lineno}" if frames else "?"
        )
        if self.refuses_waits and not helpless or self.tape is not None:
            raise DeviceError(f"{what} waits for the device: {where}")
        with self._lock:
            self.waits.append(f"{what} {where}")

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in page-locked memory, which is copied to the device without a wait."""
        copy = tensor.clone()
        self._pinned[copy.untyped_storage().data_ptr()] = copy
        return copy

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned


class Stream:
    """``torch.cuda.Stream``: knows whether anything ran on it."""

    def __init__(self, device: Device) -> None:
        self._device, self.used = device, False

    def wait_stream(self, other: Stream) -> None:
        """All runs in order here."""

    def synchronize(self) -> None:
        """All has run."""

    def is_capturing(self) -> bool:
        return self._device.tape is not None


class Event:
    """``torch.cuda.Event``: all has run when it is passed."""

    def __init__(self, *_, **__) -> None:
        self._passed = 0.0

    def record(self, *_) -> None:
        self._passed = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other._passed - self._passed)


def _is_ours(name: str) -> bool:
    path = Path(name)
    return path.is_relative_to(_ROOT) and ".venv" not in path.parts and path.name not in _SIMULATION
