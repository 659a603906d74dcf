"""Limits that a video must keep to, and what a refusal blames. The pipeline looks at each limit as
soon as it can be known, before costlier stages."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.preprocess.damage import describe
from likeness.scene.errors import UnusableVideo, UserError

if TYPE_CHECKING:
    from likeness.preprocess.scan import Scan
    from likeness.preprocess.video import VideoInfo

_BLAMED = 0.1  # part of a video that must be lost for that to be the reason why it is of no use


@dataclasses.dataclass(frozen=True)
class Limits:
    """None: no limit."""

    max_residual: float | None = None
    """Median landmark error of the landmark tracker, in per cent of the distance of the outer eye
    corners."""
    max_crowded: float | None = None
    """Part of the frames in which more than one face is seen."""
    max_cuts: int | None = None
    """How often the video may be cut; the best shot alone is used."""
    min_eye_distance: float | None = None
    """Median distance of the outer eye corners in pixels of the video."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"{field.name}: expected a number from 0 on, got {value}")


def check(video: Path, figures: dict[str, float], limits: Limits) -> None:
    """Raises UnusableVideo where a figure breaks its limit. ``figures``: those that are known by
    now, by their names
    here: residual, crowded, cuts, eye_distance."""
    for name, limit in dataclasses.asdict(limits).items():
        side, _, figure = name.partition("_")
        if limit is None or figure not in figures:
            continue
        value = figures[figure]
        if value > limit if side == "max" else value < limit:
            reason, what, as_text = _TEXTS[figure]
            bound = f"at {'most' if side == 'max' else 'least'} {as_text(limit)}"
            raise UnusableVideo(reason, f"{video}: {what} {as_text(value)}; the limit is {bound}")


def of_report(report: dict[str, Any]) -> dict[str, float]:
    """The figures of a finished capture."""
    figures = {
        "cuts": len(report["frames"]["cuts_s"]),
        "eye_distance": report["pictures"]["eye_distance_px"]["median"],
    }
    if "crowded" in report["frames"]:  # not in those of earlier programs
        figures["crowded"] = report["frames"]["crowded"]
    if "residual_percent" in report["tracking"]:
        figures["residual"] = report["tracking"]["residual_percent"]["median"]
    return figures


@contextlib.contextmanager
def blamed_on_damage(info: VideoInfo, scanned: Scan) -> Iterator[None]:
    """Where much of a video's stream is damaged or missing, that is the reason why what is left of
    it is no use."""
    try:
        yield
    except UnusableVideo as error:
        announced_s = info.num_frames / info.fps if scanned.reached_end else 0.0
        whole_s = max(scanned.duration_s, announced_s)
        lost_s = (
            float((scanned.damaged[:, 1] - scanned.damaged[:, 0]).sum())
            + whole_s
            - scanned.duration_s
        )
        if lost_s < _BLAMED * whole_s:
            raise
        what = []
        if len(scanned.damaged):
            what.append(f"is damaged {describe(scanned.damaged.tolist(), scanned.duration_s)}")
        if announced_s > scanned.duration_s + 1 / info.fps:
            what.append(f"ends at {scanned.duration_s:.1f} s of {announced_s:.1f} s")
        raise UnusableVideo(
            "damaged stream",
            f"{info.path}: the video stream {' and '.join(what)}, and the rest of it does not do "
            f"({str(error).removeprefix(f'{info.path}: ')}): copy the file again from the camera, "
            "or record again",
        ) from None


def _percent(value: float) -> str:
    return f"{value:.1f} %"


_TEXTS = {
    "residual": (
        "tracking poor",
        "the head model follows the face with a median error of",
        _percent,
    ),
    "crowded": (
        "several persons",
        "part of the frames with more than one face:",
        lambda part: _percent(100 * part),
    ),
    "cuts": ("cuts", "number of cuts:", lambda number: f"{number:g}"),
    "eye_distance": (
        "face too small",
        "distance of the outer eye corners:",
        lambda px: f"{px:.1f} pixels",
    ),
}
