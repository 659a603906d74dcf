"""Timecodes HH:MM:SS:FF.fff to seconds, whatever the rate in which FF counts."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from likeness.scene.errors import UserError

_log = logging.getLogger(__name__)

RATES = (24, 25, 30, 48, 50, 60)
DEFAULT_RATE = 60
_FORM = re.compile(r"\s*(\d{1,3}):(\d\d):(\d\d)[:;](\d{1,4}(?:\.\d+)?)\s*")
_DAY = 86400.0


def seconds_of(
    path: Path, codes: list[tuple[int, str]], rate: float | None = None
) -> tuple[np.ndarray, float]:
    """Seconds [T] from the first frame, and the frames per second, of timecodes with their numbers
    of lines.

    rate: in which the frame field counts; found out if None. Runs on over midnight. Raises
    UserError when a timecode cannot be read, its frame field reaches the rate or stays far below
    it, or time does not go on.
    """
    fields = np.array([_parse(path, number, text) for number, text in codes])
    whole, frame = fields[:, 0], fields[:, 1]
    measured = _measured(whole, frame)
    if rate is not None and measured is not None and rate > measured + max(2.0, 0.1 * measured):
        raise UserError(
            f"{path}: its timecodes count about {measured:.0f} frames a second, not the {rate:g} "
            "of --fps; leave it out"
        )
    rate = rate or _rate(path, measured, float(frame.max()))
    beyond = np.flatnonzero(frame >= rate + 1e-6)
    if len(beyond):
        number, text = codes[beyond[0]]
        raise UserError(
            f"{path}, line {number}: column Timecode: {text.strip()!r} counts to frame "
            f"{int(frame[beyond[0]])} of a second, which has {rate:g} at this rate; give the "
            "session's rate with --fps (such as 60)"
        )
    times = whole + frame / rate
    times += _DAY * np.cumsum(np.concatenate([[0], np.diff(times) < -_DAY / 2]))
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        number, text = codes[back[0] + 1]
        raise UserError(
            f"{path}, line {number}: column Timecode: {text.strip()!r} does not come after "
            f"{codes[back[0]][1].strip()!r}; expected lines in the order of time"
        )
    times -= times[0]
    return times, float(round(1 / np.median(np.diff(times)), 3)) if len(times) > 1 else float(rate)


def _parse(path: Path, number: int, text: str) -> tuple[float, float]:
    """Whole seconds, and the frame within the second."""
    match = _FORM.fullmatch(text)
    if not match:
        raise UserError(
            f"{path}, line {number}: column Timecode: expected HH:MM:SS:FF.fff (such as "
            f"13:07:25:13.586), got {text!r}"
        )
    hours, minutes, seconds, frame = match.groups()
    return 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds), float(frame)


def _measured(whole: np.ndarray, frame: np.ndarray) -> float | None:
    """How many frames a second the frame field counts, where one second follows the other; None
    where too little is seen."""
    ends, within = np.flatnonzero(np.diff(whole) == 1), np.diff(frame)[np.diff(whole) == 0]
    if len(ends) == 0 or len(within) == 0:
        return None
    # The next frame after the last of a second lies in the next second, at (frame + step - rate).
    return float(np.median(frame[ends] + np.median(within) - frame[ends + 1]))


def _rate(path: Path, measured: float | None, largest: float) -> float:
    """The rate in RATES nearest to the measured one that a frame field up to ``largest`` can
    have."""
    if measured is None:
        if largest < DEFAULT_RATE / 2:
            _log.warning(
                "%s: too short to tell the rate of its timecodes; taking %d (--fps)",
                path,
                DEFAULT_RATE,
            )
        return DEFAULT_RATE
    fits = [rate for rate in RATES if rate > largest - 1e-6]
    return float(min(fits, key=lambda rate: abs(rate - measured))) if fits else DEFAULT_RATE
