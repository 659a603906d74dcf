"""A driver and an avatar: states for files, rows of pictures for films, and the same live."""

from __future__ import annotations

import itertools
import logging
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import to_uint8
from likeness.playback.drivers.base import Driver, Recording
from likeness.playback.films import open_film
from likeness.playback.player import Player
from likeness.playback.transfer.retarget import Person, RetargetConfig, retarget
from likeness.playback.transfer.smoothing import CausalSmoother, zero_phase
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

_log = logging.getLogger(__name__)

SMOOTHING_S = 0.17
"""Seconds of the window of files' smoothing: 5 frames at 30 frames a second."""


def transfer(
    bundle: AvatarBundle,
    driver: Recording,
    config: RetargetConfig = RetargetConfig(),
    *,
    neutral: int | None = None,
    smoothing_s: float = SMOOTHING_S,
) -> HeadState:
    """The avatar's states [T] for a driver whose frames are all known.

    neutral: number of the driver's frame at rest; found if None. Raises UserError when it has no
        such frame.
    """
    names = bundle.expression_names, bundle.joint_names
    smooth = zero_phase(driver.states, driver.times, bundle.expression_names, smoothing_s)
    person = Person.of_states(driver.states, *names, neutral)
    return retarget(smooth, person, Person.of_avatar(bundle), config)


def rows(
    player: Player, driver: Recording, states: HeadState, size: int, progress: str | None = None
) -> Iterator[list[np.ndarray]]:
    """For each step of a film at the driver's rate its pictures from left to right, uint8: the
    driver's (where there are any), the avatar's; ``size`` pixels high, the avatar on white and
    ``size`` wide, held where its head turns beyond what its recording shows."""
    from tqdm import tqdm

    camera = player.bundle.default_camera.resized(size, size)
    white = torch.ones(3)
    shown, row = None, []
    for index in tqdm(
        driver.shown_at(driver.fps), desc=progress, unit="frame", disable=progress is None
    ):
        if index != shown:
            avatar = player.step(states[index], camera, white, hold=True).rgb
            theirs = driver.picture(index)
            row = [*([] if theirs is None else [at_height(theirs, size)]), to_uint8(avatar)]
            shown = index
        yield row


def live_rows(
    player: Player,
    driver: Driver,
    size: int,
    config: RetargetConfig = RetargetConfig(),
    latencies: list[float] | None = None,
) -> Iterator[list[np.ndarray]]:
    """The same for a driver that calibrates itself and then goes on without end. latencies: gets
    for each picture the seconds from the camera's picture to the avatar's."""
    bundle, avatar = player.bundle, Person.of_avatar(player.bundle)
    smoother = CausalSmoother(bundle.expression_names)
    player.held.gaussians()  # now, and not when a head first turns so far that they are needed
    camera, white = bundle.default_camera.resized(size, size), torch.ones(3)
    for state in driver:
        smooth = smoother(state, driver.time_s)
        batch = smooth.map(lambda tensor: tensor[None])
        target = retarget(batch, driver.person, avatar, config)[0]
        picture = to_uint8(player.step(target, camera, white, hold=True).rgb)
        if latencies is not None:
            latencies.append(time.perf_counter() - driver.seen_s)
        yield [at_height(driver.picture(0), size), picture]


def at_rate(rows: Iterable[list[np.ndarray]], driver: Driver) -> Iterator[list[np.ndarray]]:
    """Live rows as a film at the driver's rate needs them: each stands until the next one was seen,
    and of those that come quicker some are left out."""
    begun, shown, written = None, [], 0
    for row in rows:
        begun = driver.time_s if begun is None else begun
        due = round((driver.time_s - begun) * driver.fps) + 1
        yield from itertools.repeat(shown, max(due - written - 1, 0))
        if due > written:
            yield row
        shown, written = row, max(due, written)


def until_interrupted(rows: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
    """Rows until Ctrl-C, which ends them, and not the program: what was filmed is kept. A second
    one, or one before the first row, ends the program."""
    begun = stopping = False

    def on_signal(*_: Any) -> None:
        nonlocal stopping
        if stopping or not begun:
            raise KeyboardInterrupt
        stopping = True

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        for row in rows:
            if not begun:
                _log.info("filming; Ctrl-C ends the film")
            begun = True
            yield row
            if stopping:
                return
    finally:
        signal.signal(signal.SIGINT, before)


def write_film(path: Path, rows: Iterable[list[np.ndarray]], fps: float) -> None:
    """Writes rows of pictures of one height, uint8, as a film. Raises UserError where there are
    none."""
    written = False
    with open_film(path, fps) as film:
        for row in rows:
            film.write(np.concatenate(row, 1))
            written = True
        if not written:
            raise UserError(
                f"{path}: nothing to film; the driver ended with its calibration, give a longer one"
            )


def at_height(picture: np.ndarray, height: int) -> np.ndarray:
    """A picture [H, W, 3] at another height, uint8."""
    import cv2

    picture = to_uint8(picture)
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=method)
