"""The playback state of a recording: where it stands, whether it runs, how fast. Time is given,
never read."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

SPEEDS = (0.25, 0.5, 1.0, 2.0)


class Transport:
    """Plays, pauses and scrubs frames with times in seconds; at the end it begins anew."""

    def __init__(self, times: Sequence[float]) -> None:
        """times: [T] rising seconds, at least one."""
        if not times:
            raise ValueError("Transport: expected at least one frame")
        first = float(times[0])
        self._times = [float(time) - first for time in times]
        step = self._times[-1] / (len(times) - 1) if len(times) > 1 else 1 / 25
        # the last frame, too, is shown for a while
        self._length = self._times[-1] + max(step, 1e-3)
        self._position, self._since = 0.0, 0.0
        self.playing, self._speed = False, 1.0

    def __len__(self) -> int:
        return len(self._times)

    @property
    def speed(self) -> float:
        """Seconds of the recording in one second."""
        return self._speed

    def set_speed(self, speed: float, now: float) -> None:
        """Resumes from where it stands at another speed."""
        self._position, self._since = self._at(now), now
        self._speed = speed

    def play(self, now: float) -> None:
        if not self.playing:
            self._since, self.playing = now, True

    def pause(self, now: float) -> None:
        if self.playing:
            self._position, self.playing = self._at(now), False

    def scrub(self, frame: int, now: float) -> None:
        """Moves to a frame, running or not."""
        self._position, self._since = self._times[max(0, min(frame, len(self) - 1))], now

    def frame(self, now: float) -> int:
        """The frame that is to be shown."""
        return max(0, bisect.bisect_right(self._times, self._at(now) + 1e-9) - 1)

    def _at(self, now: float) -> float:
        if not self.playing:
            return self._position
        return (self._position + (now - self._since) * self._speed) % self._length
