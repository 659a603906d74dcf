"""What limits an avatar from these pictures, each with a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likeness.preprocess.landmarks import eye_distances

if TYPE_CHECKING:
    import numpy as np

_SMALL_PX = 60.0  # between the outer eye corners
_TURNED_DEGREES = 25.0
_POOR_PERCENT = 3.0


def find_warnings(
    pictures: Sequence[dict[str, Any]], points: Sequence[np.ndarray]
) -> list[dict[str, str]]:
    """Entries ``name``, ``what`` and ``remedy``. pictures: as the capture's report has them;
    points: [478, 2] each."""
    found = []
    yaws = [picture["yaw_degrees"] for picture in pictures]
    for picture, face in zip(pictures, points):

        def warn(condition: bool, what: str, remedy: str, name: str = picture["name"]) -> None:
            if condition:
                found.append({"name": name, "what": what, "remedy": remedy})

        eyes = float(eye_distances(face))
        warn(
            eyes < _SMALL_PX,
            f"the face is small ({eyes:.0f} pixels between the outer eye corners)",
            "take the picture from nearer or at a higher resolution",
        )
        turned = min(yaws, key=abs)
        warn(
            abs(turned) > _TURNED_DEGREES and picture["yaw_degrees"] == turned,
            f"the head is turned by {abs(turned):.0f}°: the hidden half of the face is mirrored from the other one",
            "add a picture from the front (--image again)",
        )
        warn(
            picture["residual_percent"] > _POOR_PERCENT,
            f"the head model follows the face poorly ({picture['residual_percent']:.1f} % of the eye distance)",
            "use even light, a calm face, and nothing before it",
        )
        warn(
            picture["other_faces"] > 0,
            f"{picture['other_faces']} other face(s) in the picture: the largest one was taken",
            "give a picture of one person alone",
        )
    return found
