"""Pictures beside and below each other, with labels: one picture for a film or a file."""

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
    """Pictures in rows and columns as one uint8 picture [H, W, C].

    rows: pictures [h, w, 3] or [h, w, 4], uint8 or in [0, 1]; where any has four channels all get
    them (opaque). Columns are as wide as their widest picture, rows as high as their highest;
    pictures stand in the middle of cells.
    labels: a text for each picture, drawn in its upper left corner (characters beyond ASCII become
        ``?``), or None.
    gap: pixels between pictures. fill: grey level or colour between them; transparent where there
        are four channels.
    """
    pictures = [[to_uint8(picture) for picture in row] for row in rows]
    if not pictures or not all(pictures):
        raise ValueError("sheet: expected at least one picture in each row")
    if labels is not None and [len(row) for row in labels] != [len(row) for row in rows]:
        raise ValueError("sheet: expected a label (or None) for each picture")
    channels = max(picture.shape[2] for row in pictures for picture in row)
    columns = max(map(len, pictures))
    widths = [max(row[c].shape[1] for row in pictures if c < len(row)) for c in range(columns)]
    heights = [max(picture.shape[0] for picture in row) for row in pictures]
    canvas = np.empty(
        (sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (columns - 1), channels),
        np.uint8,
    )
    canvas[...] = (*fill, 0)[:channels]
    top = 0
    for r, row in enumerate(pictures):
        left = 0
        for c, picture in enumerate(row):
            if labels is not None and labels[r][c]:
                picture = labelled(picture, labels[r][c])
            height, width = picture.shape[:2]
            y, x = top + (heights[r] - height) // 2, left + (widths[c] - width) // 2
            canvas[y : y + height, x : x + width, : picture.shape[2]] = picture
            if picture.shape[2] < channels:
                canvas[y : y + height, x : x + width, 3] = 255
            left += widths[c] + gap
        top += heights[r] + gap
    return canvas


def labelled(picture, text: str) -> np.ndarray:
    """A copy of a picture [H, W, 3 or 4] as uint8 with a text in its upper left corner: white,
    edged with black."""
    import cv2

    picture = np.ascontiguousarray(to_uint8(picture)).copy()
    scale = max(picture.shape[0] / 512, 0.5) * 0.6
    place = (round(8 * scale / 0.6), round((8 + _FONT_HEIGHT * 0.6) * scale / 0.6))
    text = text.encode("ascii", "replace").decode()
    opaque = (255,) * (picture.shape[2] - 3)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            picture,
            text,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (*colour, *opaque),
            thickness,
            cv2.LINE_AA,
        )
    return picture
