"""Limits that a video must keep to. The pipeline looks at each as soon as it can be known, before costlier stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from scene.errors import UnusableVideo, UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """None: no limit."""

    max_residual: float | None = None
    """Median landmark error of the landmark tracker, in per cent of the distance of the outer eye corners."""
    max_crowded: float | None = None
    """Part of the frames in which more than one face is seen."""
    max_cuts: int | None = None
    """How often the picture may be cut; the best shot alone is used."""
    min_eye_distance: float | None = None
    """Median distance of the outer eye corners in pixels of the video."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"{field.name}: expected a number from 0 on, got {value}")


def check(video: Path, figures: dict[str, float], limits: Limits) -> None:
    """Raises UnusableVideo where a figure breaks its limit. ``figures``: those that are known by now, by their names
    here: residual, crowded, cuts, eye_distance."""
    for name, limit in dataclasses.asdict(limits).items():
        side, _, figure = name.partition("_")
        if limit is None or figure not in figures:
            continue
        value = figures[figure]
        if value > limit if side == "max" else value < limit:
            reason, what, shown = _TEXTS[figure]
            bound = f"at {'most' if side == 'max' else 'least'} {shown(limit)}"
            raise UnusableVideo(reason, f"{video}: {what} {shown(value)}; the limit is {bound}")


def of_report(report: dict[str, Any]) -> dict[str, float]:
    """The figures of a finished capture."""
    found = {"cuts": len(report["frames"]["cuts_s"]), "eye_distance": report["pictures"]["eye_distance_px"]["median"]}
    if "crowded" in report["frames"]:  # not in those of earlier programs
        found["crowded"] = report["frames"]["crowded"]
    if "residual_percent" in report["tracking"]:
        found["residual"] = report["tracking"]["residual_percent"]["median"]
    return found


def _percent(value: float) -> str:
    return f"{value:.1f} %"


_TEXTS = {
    "residual": ("tracking poor", "the head model follows the face with a median error of", _percent),
    "crowded": ("several persons", "part of the frames with more than one face:", lambda part: _percent(100 * part)),
    "cuts": ("cuts", "number of cuts:", lambda number: f"{number:g}"),
    "eye_distance": ("face too small", "distance of the outer eye corners:", lambda px: f"{px:.1f} pixels"),
}
