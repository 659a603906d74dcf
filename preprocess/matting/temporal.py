"""Smoothing over time that does not lag behind motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np

from likeness.preprocess.matting.kernels import share_kernel

_BLUR = (5, 5)


def motion_aware_mean(
    items: Iterable[tuple[np.ndarray, np.ndarray, Any]], radius: int, tolerance: float
) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """Averages each pixel's value over the frames around in which the image shows the same colour
    there.

    items: (image uint8 [h, w, 3], values float32 [h, w], anything); given back in order with the
    values averaged over the frames up to ``radius`` before and after. tolerance: change of colour
    in 8-bit levels (mean over 5x5 pixels of the largest channel's) at which a frame's weight has
    fallen to 1/e. Reads ahead ``radius`` frames; a change of size starts anew.
    """
    falloff = np.exp(-((np.arange(256) / tolerance) ** 2)).astype(np.float32)
    window: deque[_Entry] = deque()
    for image, values, rest in items:
        if window and window[-1].image.shape != image.shape:
            while window:
                yield window.popleft().result()
        entry = _Entry(image, values, rest)
        for other in window:
            entry.share(other, falloff)
        window.append(entry)
        if len(window) > radius:
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


class _Entry:
    def __init__(self, image: np.ndarray, values: np.ndarray, rest: Any) -> None:
        self.image, self.values, self.rest = image, values, rest
        self.total, self.weight = values.copy(), np.ones_like(values)

    def share(self, other: _Entry, falloff: np.ndarray) -> None:
        b, g, r = cv2.split(cv2.absdiff(self.image, other.image))
        change = cv2.blur(cv2.max(cv2.max(b, g), r), _BLUR)
        share_kernel(
            change,
            falloff,
            self.values,
            other.values,
            self.total,
            other.total,
            self.weight,
            other.weight,
        )

    def result(self) -> tuple[np.ndarray, np.ndarray, Any]:
        return self.image, self.total / self.weight, self.rest
