"""First pass over a video: every face's landmarks, and what is needed to tell which frames are
usable."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from likeness.head_models.landmarks import NUM_LANDMARKS
from likeness.preprocess.damage import damaged_spans
from likeness.preprocess.landmarks import FaceMeshDetector
from likeness.preprocess.video import VideoInfo, VideoReader, import_cv2, prefetch
from likeness.scene.errors import UnusableVideo, UserError
from likeness.scene.files import atomic_path
from likeness.scene.reading import DAMAGED
from likeness.scene.tensor_files import Array, read_arrays

# pixels of the square to which faces are resized before their sharpness is measured
_FACE_SIZE = 128
_THUMBNAIL = (32, 32)
_STAMP_S = 1e-3  # within which two decoders agree on the time of a frame
_COUNT = Array((), "whole", low=0)
_ARRAYS = {
    "index": Array(("N",), "whole", low=0),
    "time_s": Array(("N",), "float64"),
    "thumbnails": Array(("N", *_THUMBNAIL, 3), "uint8"),
    "luminance": Array(("N",), "real", low=0, high=1),
    "face_frame": Array(("M",), "whole", low=0),
    "points": Array(("M", NUM_LANDMARKS, 2)),
    "sharpness": Array(("M",)),
    "face_luminance": Array(("M",)),
    "damaged": Array(("K", 2), "float64", low=0),
    "num_decoded": _COUNT,
    "num_damaged": _COUNT,
    "num_untimed": _COUNT,
    "stride": Array((), "whole", low=1),
    "duration_s": Array((), "real", low=0),
    "reached_end": Array((), "bool"),
}


@dataclasses.dataclass(frozen=True)
class Scan:
    """What was seen in N frames of a video, which hold M faces in all.

    index: [N] number of the frame in the file. time_s: [N]. thumbnails: [N, 32, 32, 3] uint8 RGB,
    the whole image whatever its proportions. luminance: [N] mean in [0, 1].
    face_frame: [M] position (0 .. N - 1) of the frame of each face. points: [M, 478, 2] pixels of
        the full image.
    sharpness: [M] variance of the Laplacian of the face at a fixed size. face_luminance: [M] mean
        in [0, 1].
    num_decoded: frames that could be read. num_damaged: frames among and between them that are
    damaged, which are none of the N; damaged: [K, 2] from when to when. num_untimed: frames read
    that have no usable timestamp. stride: every how many frames were looked at. duration_s: up to
    where the video was read. reached_end: it was read to its last readable frame (not only to
    --end).
    """

    index: np.ndarray
    time_s: np.ndarray
    thumbnails: np.ndarray
    luminance: np.ndarray
    face_frame: np.ndarray
    points: np.ndarray
    sharpness: np.ndarray
    face_luminance: np.ndarray
    damaged: np.ndarray
    num_decoded: int
    num_damaged: int
    num_untimed: int
    stride: int
    duration_s: float
    reached_end: bool

    def save(self, path: Path) -> None:
        """Writes an npz file, whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            )

    @classmethod
    def load(cls, path: Path) -> Scan:
        """Reads what ``save`` wrote. Raises UserError for anything else."""
        values = read_arrays(path, "landmarks of a video", _ARRAYS)
        faces, frames = values["face_frame"], len(values["index"])
        if frames == 0 or (
            len(faces) and not (faces.max() < frames and (faces[1:] >= faces[:-1]).all())
        ):
            raise UserError(
                f"{path}: face_frame: expected ascending numbers of its {frames} frames; {DAMAGED}"
            )
        plain: dict[str, Any] = {
            name: value.item() if value.ndim == 0 else value for name, value in values.items()
        }
        return cls(**plain)


def scan(
    info: VideoInfo,
    start: float | None,
    end: float | None,
    capacity: int,
    max_faces: int = 3,
    progress: bool = True,
) -> Scan:
    """Looks at the frames of a video within [start, end) seconds.

    Bounded in memory: when ``capacity`` frames are held, every second one is dropped and from then
    on only every second one is looked at, so that the frames stay evenly spaced however long the
    video proves to be. Raises UserError when nothing can be decoded or ``start`` lies beyond the
    end.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    reader = VideoReader(info, start, end)
    rows: list[_Row] = []
    faces_found = 0
    with FaceMeshDetector(max_faces) as detector, ThreadPoolExecutor(1, "damage") as pool:
        damage = pool.submit(damaged_spans, info.path)
        total = _expected_frames(info, start, end)
        with tqdm(
            total=total, desc="landmarks", unit="frame", disable=not progress, leave=True
        ) as bar:
            for frame in prefetch(iter(reader)):
                if frame.index % reader.stride:
                    continue  # was decoded ahead of a change of the stride
                row = _Row.of(frame, detector(frame.image))
                rows.append(row)
                faces_found += len(row.points) > 0
                if len(rows) >= capacity:
                    reader.stride *= 2
                    rows = [row for row in rows if row.index % reader.stride == 0]
                bar.update(max(0, min(frame.index + 1 - bar.n, (total or 1 << 60) - bar.n)))
                bar.set_postfix(with_face=faces_found, refresh=False)
            bar.total = bar.n
    if reader.num_decoded == 0:
        message = (
            f"{info.path}: no frame of it can be decoded; the file is damaged, copy or record it "
            "again"
        )
        raise UnusableVideo("no frame can be decoded", message)
    if not rows:
        raise UnusableVideo(
            "too short",
            f"{info.path}: no frame between --start {start or 0:g} and --end "
            f"{'the end' if end is None else f'{end:g}'}"
            f"; the video is {reader.duration_s:.1f} s long",
        )
    spans = [
        (begin - _STAMP_S, until - _STAMP_S)
        for begin, until in damage.result()
        if begin < reader.duration_s
    ]
    sound = [row for row in rows if not any(begin <= row.time_s < until for begin, until in spans)]
    if not sound:
        raise UnusableVideo(
            "damaged stream", f"{info.path}: all of it is damaged; copy it again, or record again"
        )
    return _gather(sound, reader, len(rows) - len(sound), spans)


@dataclasses.dataclass
class _Row:
    index: int
    time_s: float
    thumbnail: np.ndarray
    points: np.ndarray
    sharpness: list[float]
    face_luminance: list[float]

    @classmethod
    def of(cls, frame, points) -> _Row:
        cv2 = import_cv2()
        thumbnail = cv2.resize(frame.image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        figures = [_face_figures(frame.image, face) for face in points]
        return cls(
            frame.index,
            frame.time_s,
            thumbnail,
            points,
            [a for a, _ in figures],
            [b for _, b in figures],
        )


def _face_figures(image, points) -> tuple[float, float]:
    """Sharpness and brightness of one face; (0, 0) where its box lies outside the image."""
    cv2 = import_cv2()
    low = np.maximum(np.floor(points.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int), image.shape[1::-1])
    if (high - low).min() < 4:
        return 0.0, 0.0
    patch = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    patch = cv2.resize(patch, (_FACE_SIZE, _FACE_SIZE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(patch, cv2.CV_32F).var()), float(patch.mean() / 255)


def _expected_frames(info: VideoInfo, start: float | None, end: float | None) -> int | None:
    """For the progress bar only: the container's count may lie."""
    if info.num_frames == 0:
        return None
    return max(
        1, min(info.num_frames, round((end or float("inf")) * info.fps) if end else info.num_frames)
    )


def _gather(
    rows: list[_Row], reader: VideoReader, num_unsound: int, spans: list[tuple[float, float]]
) -> Scan:
    thumbnails = np.stack([row.thumbnail for row in rows])
    counts = [len(row.points) for row in rows]
    points = np.concatenate([row.points for row in rows]).reshape(-1, NUM_LANDMARKS, 2)
    return Scan(
        index=np.array([row.index for row in rows], np.int64),
        time_s=np.array([row.time_s for row in rows], np.float64),
        thumbnails=thumbnails,
        luminance=thumbnails.mean((1, 2, 3)) / 255,
        face_frame=np.repeat(np.arange(len(rows)), counts),
        points=points.astype(np.float32),
        sharpness=np.array([value for row in rows for value in row.sharpness], np.float32),
        face_luminance=np.array(
            [value for row in rows for value in row.face_luminance], np.float32
        ),
        num_decoded=reader.num_decoded,
        damaged=np.array(spans, np.float64).reshape(-1, 2).clip(0, reader.duration_s),
        num_damaged=reader.num_damaged + num_unsound,
        num_untimed=reader.num_untimed,
        stride=reader.stride,
        duration_s=reader.duration_s,
        reached_end=reader.reached_end,
    )
