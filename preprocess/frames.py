"""Second pass over a video: the cropped images and their mattes, written one by one."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likeness.preprocess.crop import Framing
from likeness.preprocess.video import VideoInfo, VideoReader, import_cv2, prefetch
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes, write_json
from likeness.scene.image_files import is_whole_png, load_image
from likeness.scene.reading import read_json

if TYPE_CHECKING:
    from likeness.preprocess.matting import MattingModel

# frames shown again to a matting model that looks back in time, when work resumes
_WARM_UP = 32
_NAMES = "[0-9]" * 6 + ".png"
_MAX_PENDING = 8  # images on their way to the disk


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """Where the frames of a capture lie; ``position`` is the frame's place in the capture."""

    root: Path

    def image(self, position: int) -> Path:
        return self.root / "images" / f"{position:06d}.png"

    def matte(self, position: int) -> Path:
        return self.root / "mattes" / f"{position:06d}.png"

    def present(self) -> list[Path]:
        """All images and mattes that are there."""
        return [
            path
            for folder in ("images", "mattes")
            for path in sorted((self.root / folder).glob(_NAMES))
        ]

    def done(self, position: int) -> bool:
        return self.image(position).is_file() and self.matte(position).is_file()

    def damaged(self) -> list[Path]:
        """Files that are not whole. All are read once; a note in ``work`` of their sizes and times
        then tells that they are still the same."""
        note = self.root / "work" / "checked.json"
        stats = {path: path.stat() for path in self.present()}
        stamps = {
            path.relative_to(self.root).as_posix(): [stat.st_size, stat.st_mtime_ns]
            for path, stat in stats.items()
        }
        with contextlib.suppress(UserError):
            if read_json(note, dict[str, list[int]], "list of checked images") == stamps:
                return []
        damaged = [path for path in stats if not is_whole_png(path)]
        if not damaged and note.parent.is_dir():
            # a folder that cannot be written to costs the reading each time, nothing else
            with contextlib.suppress(UserError, OSError):
                write_json(note, stamps)
        return damaged


def write_frames(
    info: VideoInfo,
    indices: Sequence[int],
    framing: Framing,
    matting: MattingModel,
    files: FrameFiles,
    progress: bool = True,
) -> int:
    """Writes image and matte of each frame whose number in the file is in ``indices``; returns
    how many were new.

    Frames that are there already are skipped. Memory is bounded by what the matting model holds
    back.
    """
    from tqdm import tqdm

    from likeness.preprocess.matting.base import SURVEYED, SurveyingModel

    missing = [position for position in range(len(indices)) if not files.done(position)]
    if not missing:
        return 0
    if isinstance(matting, SurveyingModel):
        shown = np.linspace(0, len(indices) - 1, min(SURVEYED, len(indices))).astype(int)
        survey = VideoReader(info, only=[indices[position] for position in shown])
        matting.survey(framing.apply(frame.image) for frame in prefetch(iter(survey)))
    first = max(0, missing[0] - _WARM_UP)
    reader = VideoReader(info, only=indices[first:])
    waiting: collections.deque[np.ndarray] = collections.deque()

    def crops() -> Iterator[np.ndarray]:
        for frame in prefetch(iter(reader)):
            waiting.append(framing.apply(frame.image))
            yield waiting[-1]

    wanted = set(missing)
    pending: collections.deque[Future[None]] = collections.deque()
    position = first
    with (
        ThreadPoolExecutor(2, thread_name_prefix="frames") as pool,
        tqdm(
            total=len(indices),
            initial=len(indices) - len(missing),
            desc="mattes",
            unit="frame",
            disable=not progress,
        ) as bar,
    ):
        for alpha in matting.mattes(crops()):
            image = waiting.popleft()
            if position in wanted:
                pending.append(pool.submit(write_pair, files, position, image, alpha))
                bar.update()
            position += 1
            while len(pending) > _MAX_PENDING:
                pending.popleft().result()
        for future in pending:
            future.result()
    if position != len(indices):
        raise UserError(
            f"{info.path}: gave {position} of {len(indices)} frames when read a second time; has "
            "the file changed?"
        )
    return len(missing)


def read_image(path: Path, what: str = "picture") -> np.ndarray:
    """An image [H, W, 3] RGB, or [H, W] where the file is grey. Raises UserError when it is
    missing or damaged."""
    cv2 = import_cv2()
    image = load_image(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        state = "damaged" if Path(path).is_file() else "missing"
        raise UserError(f"{path}: {what} of the capture is {state}; preprocess the video again")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_pair(files: FrameFiles, position: int, image: np.ndarray, alpha: np.ndarray) -> None:
    """Writes one frame, uint8 [H, W, 3], without the background's colour, and alpha uint8
    [H, W]."""
    from likeness.preprocess.matting import foreground

    write_bytes(files.image(position), _png(foreground.estimate(image, alpha)))
    # last: its presence says that the frame is finished
    write_bytes(files.matte(position), _png(alpha))


def shown_share(matte: np.ndarray, points: np.ndarray) -> float:
    """The share of landmarks [478, 2] (pixels) that a matte uint8 [H, W] shows."""
    x, y = np.clip(points.astype(int), 0, len(matte) - 1).T
    return float((matte[y, x] > 127).mean())


def _png(image: np.ndarray) -> bytes:
    cv2 = import_cv2()
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # its default is quick to write and to read, 10 % larger
    return cv2.imencode(".png", stored)[1].tobytes()
