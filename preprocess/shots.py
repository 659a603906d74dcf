"""Where a video was cut: to another person, another camera, by a dissolve. Not: flashes, lights,
fast motion.

Two measures of thumbnails tell these apart, of which each is blind to what misleads the other. The
*structure* distance is one minus the correlation of high-pass filtered grey thumbnails: exposure,
lamps and flashes hardly change it, motion does. The *colour* distance is half the L1 distance of
colour histograms: motion hardly changes it, light does. A cut to another person changes both; one
to another camera on the same person and the same colours changes the structure, and moves the face
or the background at once.

Measured on seven clips of talking heads, 107 s (largest within a clip; smallest over 2,500 joins of
two of them):

| measure | neighbours | 4 frames apart | 15 apart | any two | joins |
|---|---|---|---|---|---|
| structure | 0.19 | 0.60 | 0.94 | 0.97 | 0.57 |
| colour | 0.06 | 0.07 | 0.12 | 0.16 | 0.29 |
| move of the face | 0.09 | 0.13 | 0.28 | | |
| growth of the face | 0.04 | 0.08 | 0.10 | | |
| change of the background | 0.015 | 0.020 | 0.020 | 0.040 | |

Gains of 0.1 to 1.6, gammas of 0.5 and 2, a tint, and lamps from one side leave the structure
distance at 0.15 or less.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from likeness.preprocess.landmarks import face_widths
from likeness.preprocess.video import import_cv2

if TYPE_CHECKING:
    from likeness.preprocess.scan import Scan

_BINS = 16  # of the histogram of each colour channel
_HIGH_PASS = 3.0  # pixels of the thumbnail: standard deviation of the blur that is subtracted
_FLAT = 1e-3  # a thumbnail of less contrast has no structure: nothing resembles it
_MIN_BACKGROUND = 40  # pixels of a thumbnail that must show background for it to be compared
# fewer are a glitch, or the blend of two shots that converters of frame rates make
_LASTING_FRAMES = 2
_DISSOLVE_STEP_S = 0.2  # how densely dissolves are looked for
_DISSOLVE_REACH_S = (0.6, 1.4)  # nearest and farthest frames that are compared, before and after


@dataclasses.dataclass(frozen=True)
class ShotConfig:
    structure: float = 0.4
    """Structure distance (0 to 2) between neighbouring frames above which the image may have been
    cut."""
    colour: float = 0.2
    """Colour distance (0 to 1) that makes it a cut."""
    background: float = 0.05
    """So does a mean change (0 to 1) of what is seen beside the person,"""
    jump: float = 0.2
    """or a movement of all faces in face widths, or the logarithm of their growth, above this"""
    speed: float = 0.8
    """and this much for each second between the two frames."""
    interruption_s: float = 2.0
    """A shot continues after a flash, a glitch or an inserted image of at most this length."""


@dataclasses.dataclass(frozen=True)
class Shots:
    """shot: [N] a number for each frame of a scan; the frames of a shot share one camera and
    person, but for its interruptions, which have numbers of their own. cuts: positions where a new
    shot begins."""

    shot: np.ndarray
    cuts: list[int]

    def part(self, position: int) -> tuple[int, int]:
        """First and last position of the shot to which a frame belongs."""
        places = np.flatnonzero(self.shot == self.shot[position])
        return int(places[0]), int(places[-1])


def find_shots(scan: Scan, width: int, height: int, config: ShotConfig = ShotConfig()) -> Shots:
    """The shots of a scanned video whose images have this size in pixels."""
    likeness = _Likeness(scan, width, height, config)
    starts = {0}
    for position in range(1, len(scan.index)):
        if likeness.differs(position - 1, position):
            starts.add(position)
        elif (
            position >= 2
            and position - 1 not in starts
            and likeness.differs(position - 2, position)
        ):
            starts |= {position - 1, position}  # between them a blend of both
    bounds = [*sorted(starts), len(scan.index)]
    parts = [
        part for low, high in zip(bounds, bounds[1:]) for part in likeness.dissolved(low, high)
    ]
    numbers = _continued(parts, scan.time_s, likeness, config)
    cuts, current, until = [], None, 0
    for k, part in enumerate(parts):
        if not part.lasting or k < until:
            continue
        if current is not None and numbers[k] != current:
            cuts.append(part.first)
        current = numbers[k]
        until = max(j for j, number in enumerate(numbers) if number == current)
    return Shots(np.repeat(numbers, [part.end - part.first for part in parts]), cuts)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Frames [first, end) without a cut between them. lasting: they are more than the transition of
    two shots."""

    first: int
    end: int
    lasting: bool


def _continued(
    parts: list[_Part], times: np.ndarray, likeness: _Likeness, config: ShotConfig
) -> list[int]:
    """A number for each part: that of an earlier one that it continues after an interruption, or
    its own."""
    numbers: list[int] = []
    for k, part in enumerate(parts):
        numbers.append(k)
        for j in range(k - 2, -1, -1):
            if times[part.first] - times[parts[j].end] > config.interruption_s:
                break
            if (
                part.lasting
                and parts[j].lasting
                and not likeness.differs(parts[j].end - 1, part.first)
            ):
                numbers[k] = numbers[j]
                break
    return numbers


class _Likeness:
    """Compares frames of a scan by their positions."""

    def __init__(self, scan: Scan, width: int, height: int, config: ShotConfig) -> None:
        self._config, self._times = config, scan.time_s
        self._thumbnails = scan.thumbnails
        self._points, self._size = scan.points, np.array([width, height], np.float32)
        self._faces = np.searchsorted(scan.face_frame, np.arange(len(scan.index) + 1))
        self._structure = np.stack([_structure(thumbnail) for thumbnail in scan.thumbnails])
        self._colours = np.stack([_colours(thumbnail) for thumbnail in scan.thumbnails])

    def differs(self, before: int, after: int) -> bool:
        """Whether the video was cut between two frames."""
        config = self._config
        if self.structure(before, after) <= config.structure:
            return False
        if self.colour(before, after) > config.colour:
            return True
        moved, changed = self._moved(before, after), self._background(before, after)
        reach = config.jump + config.speed * float(self._times[after] - self._times[before])
        return (moved is not None and moved > reach) or (
            changed is not None and changed > config.background
        )

    def structure(self, before, after):
        """Structure distances of frames or of all pairs of two lists of frames."""
        return 1 - self._structure[before] @ self._structure[after].T

    def colour(self, before, after) -> float:
        """Colour distance of two frames."""
        return float(abs(self._colours[before] - self._colours[after]).sum() / 2)

    def dissolved(self, low: int, high: int) -> list[_Part]:
        """Frames [low, high) without hard cuts, split where one image slowly gives way to
        another."""
        times = self._times[low:high]
        near, far = _DISSOLVE_REACH_S
        hits = []
        for time_s in np.arange(times[0] + far, times[-1] - far, _DISSOLVE_STEP_S):
            before = low + np.searchsorted(times, np.linspace(time_s - far, time_s - near, 4))
            after = low + np.searchsorted(times, np.linspace(time_s + near, time_s + far, 4)).clip(
                max=len(times) - 1
            )
            if (
                self.structure(before, after).min() > self._config.structure
                and min(self.colour(i, j) for i in before for j in after) > self._config.colour
                # somebody who comes or goes
                and all(self._faces[i] < self._faces[i + 1] for i in (*before, *after))
            ):
                hits.append(time_s)
        parts, begun = [], low
        while hits:
            run = [hit for hit in hits if hit - hits[0] < 2 * far]
            hits = hits[len(run) :]
            first, end = (
                int(low + place)
                for place in np.searchsorted(times, [run[0] - near, run[-1] + near])
            )
            parts += [_Part(begun, first, True), _Part(first, end, False)]
            begun = end
        parts.append(_Part(begun, high, high - begun >= _LASTING_FRAMES))
        return [part for part in parts if part.end > part.first]

    def _moved(self, before: int, after: int) -> float | None:
        """How far the faces moved or grew at least; None where one of the frames has none."""
        faces, others = (self._points[self._faces[i] : self._faces[i + 1]] for i in (before, after))
        if len(faces) == 0 or len(others) == 0:
            return None
        sizes, grown = (np.maximum(face_widths(points), 1e-6) for points in (faces, others))
        growth = abs(np.log(grown[None] / sizes[:, None]))
        return float(np.maximum(moved(faces[:, None], others[None]), growth).min())

    def _background(self, before: int, after: int) -> float | None:
        """Mean change beside the persons of both frames; None where too little of it is seen."""
        seen = self._beside(before) & self._beside(after)
        if seen.sum() < _MIN_BACKGROUND:
            return None
        pair = self._thumbnails[before][seen].astype(np.float32) - self._thumbnails[after][seen]
        return float(abs(pair).mean() / 255)

    def _beside(self, position: int) -> np.ndarray:
        """Which pixels of a thumbnail lie beside heads and above shoulders; none where there is no
        face."""
        faces = self._points[self._faces[position] : self._faces[position + 1]] / self._size
        rows, columns = self._thumbnails.shape[1:3]
        x, y = (np.arange(columns) + 0.5) / columns, ((np.arange(rows) + 0.5) / rows)[:, None]
        free = np.full((rows, columns), bool(len(faces)))
        for low, high in zip(faces.min(1), faces.max(1)):
            size, middle = high - low, (low + high) / 2
            head = (abs(x - middle[0]) < 0.9 * size[0]) & (y > low[1] - 0.6 * size[1])
            free &= ~(head | (y > high[1] - 0.1 * size[1]))
        return free


def moved(before, after):
    """Root mean square movement of the landmarks in units of face width, for faces [*b, 478, 2]."""
    distance = np.sqrt(((before - after) ** 2).sum(-1).mean(-1))
    return distance / np.maximum(np.maximum(face_widths(before), face_widths(after)), 1e-6)


def _structure(thumbnail):
    """A thumbnail [H, W, 3] uint8 without colour and slow changes of brightness, as a unit vector
    [H·W]."""
    grey = thumbnail.astype(np.float32).mean(-1) / 255
    high = (grey - import_cv2().GaussianBlur(grey, (0, 0), _HIGH_PASS)).ravel()
    high -= high.mean()
    size = float(np.linalg.norm(high))
    return high / size if size > _FLAT else np.zeros_like(high)


def _colours(thumbnail):
    """The histograms of a thumbnail's channels, whose sum is 1."""
    levels = thumbnail.reshape(-1, 3).astype(np.int64) * _BINS // 256 + np.arange(3) * _BINS
    return np.bincount(levels.ravel(), minlength=3 * _BINS) / levels.size
