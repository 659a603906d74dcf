"""A driver and an avatar: states for files, rows of images for films, and the same live."""

from __future__ import annotations

import dataclasses
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
from likeness.playback.drivers.base import LiveDriver, LiveFrame, Recording
from likeness.playback.films import open_film
from likeness.playback.player import Player
from likeness.playback.transfer.retarget import MotionProfile, RetargetConfig, retarget
from likeness.playback.transfer.smoothing import CausalSmoother, zero_phase
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

_log = logging.getLogger(__name__)

SMOOTHING_S = 0.17
"""Seconds of the smoothing window of files: 5 frames at 30 frames per second."""

Row = list[np.ndarray]
"""Images [H, W, 3] uint8 of one height, from left to right: the driver's (if any), the avatar's."""


def transfer(
    bundle: AvatarBundle,
    driver: Recording,
    config: RetargetConfig = RetargetConfig(),
    *,
    neutral: int | None = None,
    smoothing_s: float = SMOOTHING_S,
) -> HeadState:
    """The avatar's states [T] for a driver whose frames are all known.

    neutral: the driver's frame at rest; found if None. Raises UserError when it has no such frame.
    """
    names = bundle.expression_names, bundle.joint_names
    smooth = zero_phase(driver.states, driver.times, bundle.expression_names, smoothing_s)
    profile = MotionProfile.of_states(driver.states, *names, neutral)
    return retarget(smooth, profile, MotionProfile.of_avatar(bundle), config)


def rows(
    player: Player, driver: Recording, states: HeadState, size: int, progress: str | None = None
) -> Iterator[Row]:
    """The rows of a film at the driver's rate, ``size`` pixels high. The avatar is on white and
    clamped where its head turns beyond the views of its recording."""
    from tqdm import tqdm

    camera, white = player.bundle.default_camera.resized(size, size), torch.ones(3)
    steps = tqdm(driver.frames_at(driver.fps), progress, unit="frame", disable=progress is None)
    for index, repeats in itertools.groupby(steps):
        avatar = to_uint8(player.step(states[index], camera, white, clamp_views=True).rgb)
        row = [avatar]
        if driver.images is not None:
            row = [at_height(driver.images(index), size), avatar]
        for _ in repeats:
            yield row


@dataclasses.dataclass(frozen=True)
class LiveRow:
    """A row, the frame that it shows, and the seconds from the camera's image to the avatar's."""

    images: Row
    frame: LiveFrame
    latency_s: float


def live_rows(
    player: Player, driver: LiveDriver, size: int, config: RetargetConfig = RetargetConfig()
) -> Iterator[LiveRow]:
    """The same for a driver that calibrates itself and then continues without end."""
    bundle, avatar = player.bundle, MotionProfile.of_avatar(player.bundle)
    smoother = CausalSmoother(bundle.expression_names)
    player.clamped.gaussians()  # now, and not when a head first turns so far that they are needed
    camera, white = bundle.default_camera.resized(size, size), torch.ones(3)
    for frame in driver.frames():
        batch = smoother(frame.state, frame.time_s).map(lambda tensor: tensor[None])
        target = retarget(batch, frame.profile, avatar, config)[0]
        image = to_uint8(player.step(target, camera, white, clamp_views=True).rgb)
        latency_s = time.perf_counter() - frame.seen_s
        yield LiveRow([at_height(frame.image, size), image], frame, latency_s)


def at_rate(rows: Iterable[LiveRow], fps: float) -> Iterator[Row]:
    """Live rows as a film of ``fps`` needs them: each is repeated until the next one was seen, and
    of those that come faster some are left out."""
    start, last, written = None, [], 0
    for row in rows:
        start = row.frame.time_s if start is None else start
        due = round((row.frame.time_s - start) * fps) + 1
        yield from itertools.repeat(last, max(due - written - 1, 0))
        if due > written:
            yield row.images
        last, written = row.images, max(due, written)


def until_interrupted(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows until Ctrl-C, which ends them, and not the program: what was filmed is kept. A second
    one, or one before the first row, ends the program."""
    filming = stopping = False

    def on_signal(*_: Any) -> None:
        nonlocal stopping
        if stopping or not filming:
            raise KeyboardInterrupt
        stopping = True

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        for row in rows:
            if not filming:
                _log.info("filming; Ctrl-C ends the film")
            filming = True
            yield row
            if stopping:
                return
    finally:
        signal.signal(signal.SIGINT, before)


def write_film(path: Path, rows: Iterable[Row], fps: float) -> None:
    """Writes rows as a film. Raises UserError where there are none."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise UserError(
            f"{path}: nothing to film; the driver ended with its calibration, give a longer one"
        )
    with open_film(path, fps) as film:
        for row in itertools.chain([first], rows):
            film.write(np.concatenate(row, 1))


def at_height(image: np.ndarray, height: int) -> np.ndarray:
    """An image [H, W, 3] at another height, uint8."""
    import cv2

    image = to_uint8(image)
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
