"""Live images: a webcam by its number, or a file in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from likeness.preprocess.video import Frame, VideoReader, import_cv2, open_video
from likeness.scene.errors import UserError

_WAIT_S = 5.0  # for a webcam's first image, and for any later one


class CameraStream:
    """Frames of a camera as they come. Of a webcam always the newest: those that came while nobody
    asked are passed over. Of a file, for tests and for trying things out, every frame, as fast as
    they are asked for.

    source: a number (``0`` is the first webcam), a device's path, or a video file. width, height:
    pixels of the images (of a webcam: what it settles on).
    """

    def __init__(self, source: str) -> None:
        self.source = str(source)
        self.live = self.source.isdecimal() or Path(self.source).is_char_device()
        if not self.live:
            self._info = open_video(Path(self.source))
            self.width, self.height = self._info.width, self._info.height
            self.fps = self._info.fps
            return
        cv2 = import_cv2()
        self._capture = cv2.VideoCapture(
            int(self.source) if self.source.isdecimal() else self.source
        )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        ok, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok or image is None:
            self._capture.release()
            raise UserError(
                f"--webcam {self.source}: no webcam there that gives images; connect one, end "
                "other programs that use it, allow this one to use it, or give another number"
            )
        self.height, self.width = image.shape[:2]
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 30.0

    def __iter__(self) -> Iterator[Frame]:
        """Frames with the seconds since the first. A webcam that stops giving images raises
        UserError."""
        return self._newest() if self.live else iter(VideoReader(self._info))

    def _newest(self) -> Iterator[Frame]:
        cv2 = import_cv2()
        ready, stop = threading.Condition(), threading.Event()
        newest: list = [None, 0]  # the image with its time, and how many there were

        def work() -> None:
            while not stop.is_set():
                ok, image = self._capture.read()
                if not ok:
                    return
                with ready:
                    newest[:] = [(image, time.monotonic()), newest[1] + 1]
                    ready.notify()

        thread = threading.Thread(target=work, name="webcam", daemon=True)
        thread.start()
        index, seen, begun = 0, 0, time.monotonic()
        try:
            while True:
                with ready:
                    until = time.monotonic() + _WAIT_S
                    while newest[1] == seen:
                        if not ready.wait(until - time.monotonic()):
                            raise UserError(
                                f"--webcam {self.source}: gives no more images; connect it again"
                            )
                    (image, at), seen = newest
                yield Frame(index, at - begun, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            stop.set()
            thread.join(_WAIT_S)
            self._capture.release()
