"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import numpy as np

TITLE = "likeness"
_QUIT = (27, ord("q"))


def has_screen() -> bool:
    """Whether a window can be opened. OpenCV would end the process where there is no display."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def show(rows: Iterable[list[np.ndarray]]) -> None:
    """Shows rows of images [H, W, 3] uint8 RGB side by side until they end, the window is closed,
    or Esc or q."""
    import cv2

    cv2.namedWindow(TITLE)
    try:
        for row in rows:
            cv2.imshow(TITLE, np.concatenate(row, 1)[..., ::-1])
            if (
                cv2.waitKey(1) & 0xFF in _QUIT
                or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
            ):
                return
    finally:
        cv2.destroyAllWindows()
