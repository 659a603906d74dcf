"""What limits an avatar from these images, each with a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from likeness.preprocess.landmarks import eye_distances

_SMALL_PX = 60.0  # between the outer eye corners
_TURNED_DEGREES = 25.0
_POOR_PERCENT = 3.0


def find_warnings(
    pictures: Sequence[dict[str, Any]], points: Sequence[np.ndarray]
) -> list[tuple[str, dict[str, str]]]:
    """Names of images, each with an entry ``what`` and ``remedy``. images: as the capture's
    report has them; points: [478, 2] each."""
    result = []
    most_frontal = min((picture["yaw_degrees"] for picture in pictures), key=abs)
    for picture, face in zip(pictures, points):
        eyes, residual = float(eye_distances(face)), picture["residual_percent"]
        yaw, others = picture["yaw_degrees"], picture["other_faces"]
        rules = (
            (
                eyes < _SMALL_PX,
                f"the face is small ({eyes:.0f} pixels between the outer eye corners)",
                "take the image from nearer or at a higher resolution",
            ),
            (
                abs(yaw) > _TURNED_DEGREES and yaw == most_frontal,
                f"the head is turned by {abs(yaw):.0f}°: the hidden half of the face is mirrored "
                "from the other one",
                "add an image from the front (--image again)",
            ),
            (
                residual > _POOR_PERCENT,
                f"the head model follows the face poorly ({residual:.1f} % of the eye distance)",
                "use even light, a calm face, and nothing before it",
            ),
            (
                others > 0,
                f"{others} other face(s) in the image: the largest one was taken",
                "give an image of one person alone",
            ),
        )
        result += [
            (picture["name"], {"what": what, "remedy": remedy})
            for applies, what, remedy in rules
            if applies
        ]
    return result
