"""Which frames of a video show the main person well enough: people followed, cuts, blur, frames
left out and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from likeness.preprocess.landmarks import eye_distances, face_widths
from likeness.preprocess.scan import Scan
from likeness.preprocess.shots import ShotConfig, Shots, find_shots, moved

_REFERENCES = 800  # frames that all others are compared with
_ALIKE = 0.01  # of these: as many are alike
_LEAST_RARE = 0.25  # what is most common keeps at least this part of its share


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    shots: ShotConfig = ShotConfig()
    """Where the video is cut."""
    jump: float = 0.5
    """Movement of a face between neighbouring frames, in face widths, above which it is another
    person."""
    blur: float = 0.2
    """Faces are blurred beyond use below this fraction of the median sharpness within
    ``blur_window_s``."""
    blur_window_s: float = 2.0
    """Seconds around a frame in which its sharpness is compared."""
    max_outside: float = 0.1
    """Largest fraction of a face's landmarks that may lie outside the image."""
    min_eye_distance: float = 10.0
    """Outer eye corners must be this many pixels apart."""
    variety: bool = True
    """Of too many frames those of rare views and expressions are kept rather; False: evenly, as a
    film of them needs it."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """The usable frames of a scan, in order of time.

    frames: [T] positions in the scan, at times time_s [T]. points: [T, 478, 2] pixels of the full
    image. sharpness, luminance: [T] of the face. dropped: number of frames looked at but left out,
    by reason. cut_times_s: where the video was cut. part_s: from when to when the shot lasts to
    which the frames belong; the whole video where it is uncut. num_people: most faces seen in one
    frame. confidence: [T, 478], 0 for landmarks outside the image.
    """

    frames: np.ndarray
    time_s: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    sharpness: np.ndarray
    luminance: np.ndarray
    dropped: dict[str, int]
    cut_times_s: list[float]
    part_s: tuple[float, float]
    num_people: int

    def take(self, index: np.ndarray, reason: str) -> Selection:
        """The frames at an index or mask; the others are counted as dropped for this reason."""
        names = ("frames", "time_s", "points", "confidence", "sharpness", "luminance")
        part: dict[str, Any] = {name: getattr(self, name)[index] for name in names}
        dropped = dict(self.dropped)
        _count(dropped, reason, len(self.frames) - len(part["frames"]))
        return dataclasses.replace(self, dropped=dropped, **part)


def select(
    scan: Scan, width: int, height: int, config: SelectionConfig = SelectionConfig()
) -> Selection:
    """Follows the main person and leaves out what cannot be used; may come out empty.

    The main person of a shot is the one with the largest face for the longest time. A shot ends
    where the video is cut; only the one whose main person can be used for longest is kept,
    because a capture has one camera, one person and one continuous motion.
    """
    shots = find_shots(scan, width, height, config.shots)
    tracks = _follow(scan, shots.shot, config)
    dropped: dict[str, int] = {}
    if not tracks:
        return _make(
            scan, np.zeros(0, np.int64), {"no face found": len(scan.index)}, shots, width, height
        )
    chosen = _best(scan, shots.shot, tracks, config)
    frames = scan.face_frame[chosen]
    with_face = np.unique(scan.face_frame)
    _count(dropped, "no face found", len(scan.index) - len(with_face))
    in_shot = shots.shot[with_face] == shots.shot[frames[0]]
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
    return _make(scan, chosen[keep], dropped, shots, width, height, int(frames[0]))


def thin(selection: Selection, max_frames: int, variety: bool = True) -> Selection:
    """At most ``max_frames`` frames; for ``variety`` closer in time where views and expressions are
    rare, further apart where many frames are alike (``rarity``), else evenly."""
    count = len(selection.frames)
    if count <= max_frames:
        return selection
    wanted = rarity(selection.points) if variety else np.ones(count)
    low, high = 0.0, 1.0 / wanted.min()
    for _ in range(60):  # by how much: shares of at most 1 that sum up to max_frames
        scale = 0.5 * (low + high)
        low, high = (
            (scale, high) if np.minimum(scale * wanted, 1).sum() < max_frames else (low, scale)
        )
    passed = np.floor(np.cumsum(np.minimum(high * wanted, 1)) + 0.5 - 1e-6)
    taken = np.flatnonzero(np.diff(passed, prepend=0.0) > 0)[:max_frames]
    return selection.take(taken, "sampled down")


def rarity(points: np.ndarray) -> np.ndarray:
    """How far frames [T] with landmarks [T, L, 2] are from others like them: the distance to the
    nearest _ALIKE of some hundred frames spread over the clip, of faces brought to one place and
    size. 1 on average, nowhere below _LEAST_RARE."""
    faces = points.astype(np.float32) - points.mean(1, keepdims=True, dtype=np.float32)
    faces = (faces / np.sqrt(np.square(faces).sum((1, 2), keepdims=True))).reshape(len(faces), -1)
    spread = np.linspace(0, len(faces) - 1, min(len(faces), _REFERENCES)).round().astype(np.int64)
    others = faces[spread]
    squares = np.square(faces).sum(1)[:, None] + np.square(others).sum(1) - 2 * faces @ others.T
    nearest = min(1 + round(_ALIKE * len(spread)), len(spread) - 1)
    distance = np.sqrt(np.partition(squares, nearest, 1)[:, nearest].clip(0))
    mean = float(distance.mean())
    return np.maximum(distance / mean, _LEAST_RARE) if mean > 1e-6 else np.ones(len(faces))


def crowded(scan: Scan) -> float:
    """The part of the frames looked at in which more than one face was found."""
    return float((np.bincount(scan.face_frame, minlength=len(scan.index)) > 1).mean())


def _make(
    scan: Scan, chosen, dropped, shots: Shots, width: int, height: int, inside: int = 0
) -> Selection:
    """``inside``: position in the scan of a frame of the shot that is used."""
    points = scan.points[chosen]
    first, last = shots.part(inside)
    after = scan.time_s[last + 1] if last + 1 < len(scan.time_s) else scan.duration_s
    counts = np.bincount(scan.face_frame, minlength=1)
    return Selection(
        frames=scan.face_frame[chosen],
        time_s=scan.time_s[scan.face_frame[chosen]],
        points=points,
        confidence=_inside(points, width, height).astype(np.float32),
        sharpness=scan.sharpness[chosen],
        luminance=scan.face_luminance[chosen],
        dropped=dropped,
        cut_times_s=[round(float(scan.time_s[cut]), 3) for cut in shots.cuts],
        part_s=(round(float(scan.time_s[first]), 3), round(float(after), 3)),
        num_people=int(counts.max()),
    )


def _count(dropped: dict[str, int], reason: str, number: int) -> None:
    if number > 0:
        dropped[reason] = number


def _inside(points, width: int, height: int):
    return (
        (points[..., 0] >= 0)
        & (points[..., 0] <= width)
        & (points[..., 1] >= 0)
        & (points[..., 1] <= height)
    )


def _follow(scan: Scan, shot, config: SelectionConfig) -> list[np.ndarray]:
    """Faces linked from frame to frame: each track holds positions in ``scan.points``."""
    bounds = np.searchsorted(scan.face_frame, np.arange(len(scan.index) + 1))
    tracks: list[list[int]] = []
    live: list[list[int]] = []
    for frame in range(len(scan.index)):
        faces = list(range(bounds[frame], bounds[frame + 1]))
        live = [
            track
            for track in live
            if scan.face_frame[track[-1]] == frame - 1 and shot[frame - 1] == shot[frame]
        ]
        pairs = sorted(
            (float(moved(scan.points[track[-1]], scan.points[face])), number, face)
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


def _best(scan: Scan, shot, tracks: list[np.ndarray], config: SelectionConfig) -> np.ndarray:
    """Positions in ``scan.points`` of the main person of the shot where that person can be used for
    longest."""

    def size(chosen: np.ndarray) -> float:
        return float(face_widths(scan.points[chosen]).sum())

    def usable(chosen: np.ndarray) -> tuple[int, float]:
        large = eye_distances(scan.points[chosen]) >= config.min_eye_distance
        return int(large.sum()), size(chosen)

    leading: dict[int, np.ndarray] = {}
    for track in sorted(tracks, key=size, reverse=True):
        leading.setdefault(int(shot[scan.face_frame[track[0]]]), track)
    return max((_join_gaps(scan, shot, tracks, track) for track in leading.values()), key=usable)


def _join_gaps(scan: Scan, shot, tracks, best) -> np.ndarray:
    """The best track with those of the same shot before and after it that can be the same person.

    Between them the face was lost (turned away, covered): the same size to a factor of 1.5, at most
    1.5 face widths from where it was left, and never beside the person in the same frame.
    """

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
        gap = np.linalg.norm(
            (centers[0] if later.any() else centers[-1]) - scan.points[near].mean(0)
        )
        if 1 / 1.5 < width / size < 1.5 and gap < 1.5 * size:
            chosen = np.concatenate([chosen, track])
            chosen = chosen[np.argsort(scan.face_frame[chosen], kind="stable")]
    return chosen


def _sharp(sharpness, times, config: SelectionConfig) -> np.ndarray:
    """False where a face is blurred far beyond its neighbours in time."""
    keep = np.ones(len(sharpness), bool)
    for i, time_s in enumerate(times):
        low, high = np.searchsorted(
            times, [time_s - config.blur_window_s, time_s + config.blur_window_s]
        )
        keep[i] = sharpness[i] >= config.blur * np.median(sharpness[low:high])
    return keep
