"""Images beside and below each other, with labels: one image for a film or a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from likeness.fitting.images import to_uint8

_FONT_HEIGHT = 22  # pixels of OpenCV's font at scale 1


def sheet(
    rows: Sequence[Sequence],
    labels: Sequence[Sequence[str | None]] | None = None,
    *,
    gap: int = 0,
    fill: Sequence[int] = (255, 255, 255),
) -> np.ndarray:
    """Images in rows and columns as one uint8 image [H, W, C].

    rows: images [h, w, 3] or [h, w, 4], uint8 or in [0, 1]; where any has four channels all get
    them (opaque). Columns are as wide as their widest image, rows as high as their highest;
    images stand in the middle of cells.
    labels: a text for each image, drawn in its upper left corner (characters beyond ASCII become
        ``?``), or None.
    gap: pixels between images. fill: grey level or colour between them; transparent where there
        are four channels.
    """
    images = [[to_uint8(image) for image in row] for row in rows]
    if not images or not all(images):
        raise ValueError("sheet: expected at least one image in each row")
    if labels is not None and [len(row) for row in labels] != [len(row) for row in rows]:
        raise ValueError("sheet: expected a label (or None) for each image")
    channels = max(image.shape[2] for row in images for image in row)
    columns = max(map(len, images))
    widths = [max(row[c].shape[1] for row in images if c < len(row)) for c in range(columns)]
    heights = [max(image.shape[0] for image in row) for row in images]
    size = sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (columns - 1)
    canvas = np.empty((*size, channels), np.uint8)
    canvas[...] = (*fill, 0)[:channels]
    top = 0
    for r, row in enumerate(images):
        left = 0
        for c, image in enumerate(row):
            label = labels[r][c] if labels is not None else None
            image = labelled(image, label) if label else image
            height, width = image.shape[:2]
            y, x = top + (heights[r] - height) // 2, left + (widths[c] - width) // 2
            canvas[y : y + height, x : x + width, : image.shape[2]] = image
            if image.shape[2] < channels:
                canvas[y : y + height, x : x + width, 3] = 255
            left += widths[c] + gap
        top += heights[r] + gap
    return canvas


def labelled(image, text: str) -> np.ndarray:
    """A copy of an image [H, W, 3 or 4] as uint8 with a text in its upper left corner: white,
    edged with black."""
    import cv2

    image = np.ascontiguousarray(to_uint8(image)).copy()
    scale = max(image.shape[0] / 512, 0.5) * 0.6
    place = (round(8 * scale / 0.6), round((8 + _FONT_HEIGHT * 0.6) * scale / 0.6))
    text = text.encode("ascii", "replace").decode()
    opaque = (255,) * (image.shape[2] - 3)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        font = cv2.FONT_HERSHEY_SIMPLEX, scale, (*colour, *opaque), thickness, cv2.LINE_AA
        cv2.putText(image, text, place, *font)
    return image
