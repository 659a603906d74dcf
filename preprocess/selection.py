"""Which frames of a video show the main person well enough: people followed, cuts, blur, frames left out and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from preprocess.landmarks import eye_distances, face_widths
from preprocess.scan import Scan

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    cut_change: float = 0.10
    """Mean change of the thumbnail (0 to 1) between neighbouring frames above which the picture may have been cut."""
    cut_ratio: float = 8.0
    """The change must also be this many times the clip's median change."""
    jump: float = 0.5
    """Movement of a face between neighbouring frames, in face widths, above which it is another shot or person."""
    blur: float = 0.2
    """Faces are blurred beyond use below this fraction of the median sharpness within ``blur_window_s``."""
    blur_window_s: float = 2.0
    """Seconds around a frame in which its sharpness is compared."""
    max_outside: float = 0.1
    """Largest fraction of a face's landmarks that may lie outside the picture."""
    min_eye_distance: float = 10.0
    """Outer eye corners must be this many pixels apart."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """The usable frames of a scan, in order of time.

    frames: [T] positions in the scan. points: [T, 478, 2] pixels of the full picture. sharpness, luminance: [T] of the
    face. dropped: number of frames looked at but left out, by reason. cut_times_s: where the picture was cut.
    num_people: most faces seen in one frame. confidence: [T, 478], 0 for landmarks outside the picture.
    """

    frames: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    sharpness: np.ndarray
    luminance: np.ndarray
    dropped: dict[str, int]
    cut_times_s: list[float]
    num_people: int


def select(scan: Scan, width: int, height: int, config: SelectionConfig = SelectionConfig()) -> Selection:
    """Follows the main person and leaves out what cannot be used; may come out empty.

    The main person is the one with the largest face for the longest time. A shot ends where the picture is cut or the
    face jumps; only the main person's best shot is kept, because a capture has one camera and one continuous motion.
    """
    import numpy as np

    cuts = _find_cuts(scan, config)
    shot = np.zeros(len(scan.index), np.int64)
    shot[cuts] = 1
    shot = np.cumsum(shot)
    tracks = _follow(scan, shot, config)
    dropped: dict[str, int] = {}
    if not tracks:
        return _make(scan, np.zeros(0, np.int64), {"no face found": len(scan.index)}, cuts, width, height)
    best = max(tracks, key=lambda track: float(face_widths(scan.points[track]).sum()))
    chosen = _join_gaps(scan, shot, tracks, best)
    frames = scan.face_frame[chosen]
    with_face = np.unique(scan.face_frame)
    _count(dropped, "no face found", len(scan.index) - len(with_face))
    in_shot = shot[with_face] == shot[frames[0]]
    _count(dropped, "before or after a cut", int((~in_shot).sum()))
    _count(dropped, "another person's face only", int(in_shot.sum()) - len(frames))

    outside = 1 - _inside(scan.points[chosen], width, height).mean(1)
    keep = outside <= config.max_outside
    _count(dropped, "face partly outside the picture", int((~keep).sum()))
    chosen = chosen[keep]
    keep = eye_distances(scan.points[chosen]) >= config.min_eye_distance
    _count(dropped, "face too small", int((~keep).sum()))
    chosen = chosen[keep]
    keep = _sharp(scan.sharpness[chosen], scan.time_s[scan.face_frame[chosen]], config)
    _count(dropped, "blurred", int((~keep).sum()))
    return _make(scan, chosen[keep], dropped, cuts, width, height)


def thin(selection: Selection, max_frames: int) -> Selection:
    """Every n-th frame, so that at most ``max_frames`` remain."""
    step = -(-len(selection.frames) // max_frames)
    if step <= 1:
        return selection
    dropped = dict(selection.dropped)
    taken = selection.frames[::step]
    _count(dropped, "sampled down", len(selection.frames) - len(taken))
    names = ("frames", "points", "confidence", "sharpness", "luminance")
    return dataclasses.replace(
        selection, dropped=dropped, **{name: getattr(selection, name)[::step] for name in names}
    )


def crowded(scan: Scan) -> float:
    """The part of the frames looked at in which more than one face was found."""
    import numpy as np

    return float((np.bincount(scan.face_frame, minlength=len(scan.index)) > 1).mean())


def _make(scan: Scan, chosen, dropped, cuts, width: int, height: int) -> Selection:
    import numpy as np

    points = scan.points[chosen]
    counts = np.bincount(scan.face_frame, minlength=1)
    return Selection(
        frames=scan.face_frame[chosen],
        points=points,
        confidence=_inside(points, width, height).astype(np.float32),
        sharpness=scan.sharpness[chosen],
        luminance=scan.face_luminance[chosen],
        dropped=dropped,
        cut_times_s=[round(float(scan.time_s[cut]), 3) for cut in cuts],
        num_people=int(counts.max()),
    )


def _count(dropped: dict[str, int], reason: str, number: int) -> None:
    if number > 0:
        dropped[reason] = number


def _inside(points, width: int, height: int):
    return (points[..., 0] >= 0) & (points[..., 0] <= width) & (points[..., 1] >= 0) & (points[..., 1] <= height)


def _find_cuts(scan: Scan, config: SelectionConfig) -> np.ndarray:
    """Positions of first frames of new shots: the picture changes at once and the faces do not stay where they were."""
    import numpy as np

    typical = float(np.median(scan.change[1:])) if len(scan.change) > 1 else 0.0
    candidates = np.flatnonzero(scan.change > max(config.cut_change, config.cut_ratio * typical))
    with_face = np.unique(scan.face_frame)
    cuts = []
    for position in candidates:
        place = int(np.searchsorted(with_face, position))
        stays = False
        if 0 < place < len(with_face):  # across frames without a face too: a flash, a glitch, an inserted picture
            before = scan.points[scan.face_frame == with_face[place - 1]]
            after = scan.points[scan.face_frame == with_face[place]]
            stays = _moved(before[:, None], after[None]).min() < config.jump / 5
        if not stays:
            cuts.append(position)
    return np.array(cuts, np.int64)


def _moved(before, after):
    """Root mean square movement of the landmarks in units of face width, for faces [*b, 478, 2]."""
    import numpy as np

    distance = np.sqrt(((before - after) ** 2).sum(-1).mean(-1))
    return distance / np.maximum(np.maximum(face_widths(before), face_widths(after)), 1e-6)


def _follow(scan: Scan, shot, config: SelectionConfig) -> list[np.ndarray]:
    """Faces linked from frame to frame: each track holds positions in ``scan.points``."""
    import numpy as np

    bounds = np.searchsorted(scan.face_frame, np.arange(len(scan.index) + 1))
    tracks: list[list[int]] = []
    live: list[list[int]] = []
    for frame in range(len(scan.index)):
        faces = list(range(bounds[frame], bounds[frame + 1]))
        live = [track for track in live if scan.face_frame[track[-1]] == frame - 1 and shot[frame - 1] == shot[frame]]
        pairs = sorted(
            (float(_moved(scan.points[track[-1]], scan.points[face])), number, face)
            for number, track in enumerate(live)
            for face in faces
        )
        taken: set[int] = set()
        continued: set[int] = set()
        for distance, number, face in pairs:
            if distance < config.jump and face not in taken and number not in continued:
                live[number].append(face)
                taken.add(face)
                continued.add(number)
        started = [[face] for face in faces if face not in taken]
        tracks += started
        live += started
    return [np.array(track, np.int64) for track in tracks]


def _join_gaps(scan: Scan, shot, tracks, best) -> np.ndarray:
    """The best track with those of the same shot before and after it that can be the same person.

    Between them the face was lost (turned away, covered): the same size to a factor of 1.5, at most 1.5 face widths
    from where it was left, and never beside the person in the same frame.
    """
    import numpy as np

    def summary(track):
        widths = face_widths(scan.points[track])
        return scan.points[track].mean(1), float(np.median(widths))

    home = shot[scan.face_frame[best[0]]]
    chosen = best
    others = [t for t in tracks if t is not best and shot[scan.face_frame[t[0]]] == home]
    others.sort(key=lambda t: abs(int(scan.face_frame[t[0]]) - int(scan.face_frame[best[0]])))
    _, size = summary(best)
    for track in others:
        frames = scan.face_frame[track]
        if np.intersect1d(frames, scan.face_frame[chosen]).size:
            continue
        centers, width = summary(track)
        chosen_frames = scan.face_frame[chosen]
        later = frames[0] > chosen_frames
        near = chosen[later][-1] if later.any() else chosen[0]
        gap = np.linalg.norm((centers[0] if later.any() else centers[-1]) - scan.points[near].mean(0))
        if 1 / 1.5 < width / size < 1.5 and gap < 1.5 * size:
            chosen = np.concatenate([chosen, track])
            chosen = chosen[np.argsort(scan.face_frame[chosen], kind="stable")]
    return chosen


def _sharp(sharpness, times, config: SelectionConfig) -> np.ndarray:
    """False where a face is blurred far beyond its neighbours in time."""
    import numpy as np

    keep = np.ones(len(sharpness), bool)
    for i, time_s in enumerate(times):
        low, high = np.searchsorted(times, [time_s - config.blur_window_s, time_s + config.blur_window_s])
        keep[i] = sharpness[i] >= config.blur * np.median(sharpness[low:high])
    return keep
