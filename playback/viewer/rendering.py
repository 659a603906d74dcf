"""The thread that renders: what changed, for whom, and no more often than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from likeness.playback.viewer.display import Display
from likeness.playback.viewer.orbit import Viewpoint

_IDLE_S = 0.5
_TICK_S = 1 / 100


class Screen(Protocol):
    """One browser: a key that it keeps while it is connected, where it looks from, and a place for
    images."""

    key: Any

    def view(self) -> Viewpoint: ...

    def put(self, image: np.ndarray) -> None: ...


class Rendering:
    """Renders a display for screens in a thread of its own."""

    def __init__(
        self,
        display: Display,
        screens: Callable[[], Sequence[Screen]],
        *,
        share: float = 1.0,
        fps: float = 60.0,
        on_frame: Callable[[int], None] = lambda frame: None,
    ) -> None:
        """screens: those that are connected now. share: of the time that rendering may take. fps:
        rounds per second at most. on_frame: is told the recording's frame whenever a new one was
        shown."""
        self._display, self._screens, self._share, self._on_frame = (
            display,
            screens,
            share,
            on_frame,
        )
        self._least_s = 1 / fps
        self._shown: dict[Any, tuple] = {}
        self._frame = -1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self.error: BaseException | None = None
        self.latest: dict[Any, np.ndarray] = {}  # the last image of each screen

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the image that is being made."""
        self._stopping.set()
        with self._display.changed:
            self._display.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, seconds: float | None = None) -> None:
        """Waits until it was stopped; raises what went wrong in its thread."""
        self._stopping.wait(seconds)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                start_s = time.monotonic()
                if not self.round():
                    self._rest()
                else:
                    took = time.monotonic() - start_s
                    self._stopping.wait(max(took / self._share, self._least_s) - took)
        except BaseException as error:  # raised again by ``wait``, in the thread that waits
            self.error = error
            self._stopping.set()

    def round(self) -> bool:
        """Renders once for every screen whose image is out of date; whether there was any."""
        screens, frame = self._screens(), self._display.frame()
        settings, generation = self._display.settings, self._display.generation
        seen_frame = frame if settings.recording else None
        connected = {screen.key for screen in screens}
        for gone in set(self._shown) - connected:
            del self._shown[gone]
            self.latest.pop(gone, None)
        worked = False
        for screen in screens:
            view = screen.view()
            shows = view, settings, seen_frame, generation
            before = self._shown.get(screen.key)
            if before is not None and all(
                a is b or (a is not settings and a == b) for a, b in zip(shows, before)
            ):
                continue
            image = self._display.image(view, settings, frame)
            self._shown[screen.key], self.latest[screen.key] = shows, image
            screen.put(image)
            worked = True
        if screens and frame != self._frame:
            self._frame = frame
            self._on_frame(frame)
        return worked

    def _rest(self) -> None:
        with self._display.changed:
            playing = self._display.transport.playing and self._display.settings.recording
            self._display.changed.wait(_TICK_S if playing else _IDLE_S)
