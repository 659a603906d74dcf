"""Reads videos frame by frame: upright, timed by their timestamps, in bounded memory, with one
clear line per error.

Codecs are OpenCV's (FFmpeg's). What it does not do by itself in every build (turning by the
rotation that a phone writes, silence on the terminal, telling a truncated file from a foreign one)
is done here.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import queue
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from likeness.preprocess.mp4 import focal_length_35mm, has_index
from likeness.scene.errors import UnusableVideo, UserError
from likeness.scene.foreign_paths import utf8_path

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

DEFAULT_FPS = 30.0
# frames in a row that cannot be decoded: then the file is taken to end (its end looks the same)
_MAX_FAILURES = 1000


def import_cv2():
    """OpenCV, with its own and FFmpeg's chatter on stderr switched off (unless the environment asks
    for it)."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    return cv2


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; ``num_frames`` may lie.

    width, height: pixels of the upright image. rotation: degrees clockwise that make the stored
        image upright.
    fps: frames a second by the container, or DEFAULT_FPS where it says nothing sensible.
    num_frames: by the container, 0 where unknown. focal_35mm: 35 mm equivalent focal length from
        metadata, or None.
    """

    path: Path
    width: int
    height: int
    rotation: int
    fps: float
    num_frames: int
    focal_35mm: float | None


@dataclasses.dataclass(frozen=True)
class Frame:
    """A decoded frame: ``index`` counts from the start of the file, ``image`` is [H, W, 3] uint8
    RGB, upright."""

    index: int
    time_s: float
    image: np.ndarray


def open_video(path: Path) -> VideoInfo:
    """Looks at a video file. Raises UserError when it is missing, empty, not a video, or cut off
    before its index."""
    path = Path(path)
    _check_file(path)
    capture = _open(path)
    try:
        cv2 = import_cv2()
        rotation = _rotation(capture)
        width, height = (
            round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if rotation in (90, 270):
            width, height = height, width
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    if not (math.isfinite(fps) and 1 <= fps <= 1000):
        _log.warning("%s: the container gives no usable frame rate; assuming %g", path, DEFAULT_FPS)
        fps = DEFAULT_FPS
    num_frames = int(count) if math.isfinite(count) and 0 < count < 1e9 else 0
    return VideoInfo(path, width, height, rotation, fps, num_frames, focal_length_35mm(path))


class VideoReader:
    """Decodes a video once, from front to back.

    Iterating gives the frames whose time lies in [start, end) and whose index is in ``only`` (all
    if None); others are decoded without conversion. ``stride`` may be raised on the way: only
    indices divisible by it are given.
    After the iteration: ``num_decoded`` frames were read, ``num_damaged`` others were passed over
    because they cannot be decoded, ``num_untimed`` of those read had no usable timestamp and were
    placed one frame time (1 / fps) behind their predecessor, ``duration_s`` is the time just after
    the last one, ``reached_end`` says whether the file was read to its last frame.
    """

    def __init__(
        self,
        info: VideoInfo,
        start: float | None = None,
        end: float | None = None,
        only: Collection[int] | None = None,
    ) -> None:
        self.info = info
        self.stride = 1
        self.num_decoded = 0
        self.num_damaged = 0
        self.num_untimed = 0
        self.duration_s = 0.0
        self.reached_end = False
        self._start = -math.inf if start is None else start
        self._end = math.inf if end is None else end
        self._only = None if only is None else frozenset(only)
        self._last = max(self._only, default=-1) if self._only is not None else None

    def __iter__(self) -> Iterator[Frame]:
        cv2 = import_cv2()
        capture = _open(self.info.path)
        rotate = {
            0: None,
            90: cv2.ROTATE_90_CLOCKWISE,
            180: cv2.ROTATE_180,
            270: cv2.ROTATE_90_COUNTERCLOCKWISE,
        }
        rotate = rotate[_rotation(capture)]
        index, time_s, origin, failures = -1, -1.0 / self.info.fps, None, 0
        try:
            while self._last is None or index < self._last:
                if not capture.grab():
                    failures += 1
                    if failures > _MAX_FAILURES:
                        self.reached_end = True
                        break
                    continue
                self.num_damaged += failures
                failures = 0
                index += 1
                stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if origin is None:
                    origin = stamp if math.isfinite(stamp) else 0.0
                stamp -= origin
                if not (math.isfinite(stamp) and stamp > time_s):
                    stamp = time_s + 1 / self.info.fps
                    self.num_untimed += 1
                time_s = stamp
                if time_s >= self._end:
                    break
                self.num_decoded = index + 1
                self.duration_s = time_s + 1 / self.info.fps
                if (
                    time_s < self._start
                    or index % self.stride
                    or (self._only is not None and index not in self._only)
                ):
                    continue
                ok, image = capture.retrieve()
                if not ok or image is None:
                    continue
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield Frame(index, time_s, image if rotate is None else cv2.rotate(image, rotate))
        finally:
            capture.release()


def prefetch(items: Iterator[_T], depth: int = 4) -> Iterator[_T]:
    """The same items, made in a thread ``depth`` ahead (decoding releases the interpreter's
    lock)."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed on to the consumer, whatever it is
            put((None, error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()


def _check_file(path: Path) -> None:
    """UserError for what can be told without a decoder."""
    try:
        if path.is_dir():
            raise UserError(
                f"{path}: a folder; expected a video file (a capture folder is given with "
                "--capture)"
            )
        if not path.exists():
            raise UserError(f"{path}: no such file; give the path of a video")
        if path.stat().st_size == 0:
            message = f"{path}: an empty file (0 bytes), expected a video; copy or record it again"
            raise UnusableVideo("empty file", message)
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a readable video file"
        ) from None


def _open(path: Path):
    cv2 = import_cv2()
    with utf8_path(path) as name:
        capture = cv2.VideoCapture(name)
    if capture.isOpened():
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture
    capture.release()
    if has_index(path) is False:
        raise UnusableVideo(
            "file cut off",
            f"{path}: cut off: the index that closes an mp4/mov file is missing, so no frame can "
            "be read; copy it again from the camera, or record again",
        )
    raise UnusableVideo(
        "not a video",
        f"{path}: not a video that can be decoded; expected e.g. mp4, mov, mkv, webm or avi; "
        "convert it (ffmpeg -i FILE -c:v libx264 out.mp4) or give another file",
    )


def _rotation(capture) -> int:
    """Degrees clockwise still to be turned by us: builds differ in whether OpenCV does it."""
    cv2 = import_cv2()
    if capture.get(cv2.CAP_PROP_ORIENTATION_AUTO):
        return 0
    return round(capture.get(cv2.CAP_PROP_ORIENTATION_META) / 90) * 90 % 360
