"""Second pass over a video: the cropped pictures and their mattes, written one by one."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.preprocess.crop import Crop
from likeness.preprocess.video import VideoInfo, VideoReader, import_cv2, prefetch
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes
from likeness.scene.image_files import load_image

if TYPE_CHECKING:
    import numpy as np

# frames shown again to a matter that looks back in time, when the work goes on after an
# interruption
_WARM_UP = 32
_NAMES = "[0-9]" * 6 + ".png"
_MAX_PENDING = 8  # pictures on their way to the disk


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """Where the frames of a capture lie; ``position`` is the frame's place in the capture."""

    root: Path

    def image(self, position: int) -> Path:
        return self.root / "images" / f"{position:06d}.png"

    def matte(self, position: int) -> Path:
        return self.root / "mattes" / f"{position:06d}.png"

    def present(self) -> list[Path]:
        """All pictures and mattes that are there."""
        return [
            path
            for folder in ("images", "mattes")
            for path in sorted((self.root / folder).glob(_NAMES))
        ]

    def done(self, position: int) -> bool:
        return self.image(position).is_file() and self.matte(position).is_file()


def write_frames(
    info: VideoInfo,
    indices: Sequence[int],
    crop: Crop,
    size: int,
    matter: Any,
    files: FrameFiles,
    progress: bool = True,
) -> int:
    """Writes picture and matte of each frame whose number in the file is in ``indices``; returns
    how many were new.

    ``matter.mattes(iterable of [H, W, 3] uint8) -> iterable of [H, W]`` alphas in order, in [0, 1]
    or uint8. Frames that are there already are skipped. Memory is bounded by what the matter holds
    back.
    """
    from tqdm import tqdm

    missing = [position for position in range(len(indices)) if not files.done(position)]
    if not missing:
        return 0
    first = max(0, missing[0] - _WARM_UP)
    reader = VideoReader(info, only=indices[first:])
    waiting: collections.deque[np.ndarray] = collections.deque()

    def crops() -> Iterator[np.ndarray]:
        for frame in prefetch(iter(reader)):
            image = crop.apply(frame.image, size)
            waiting.append(image)
            yield image

    wanted = set(missing)
    pending: collections.deque[Future] = collections.deque()
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
        for alpha in matter.mattes(crops()):
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
            f"{info.path}: gave {position} of {len(indices)} frames when read a second time; has the file changed?"
        )
    return len(missing)


def read_image(path: Path, what: str = "picture") -> np.ndarray:
    """A picture [H, W, 3] RGB, or [H, W] where the file is grey. Raises UserError when it is
    missing or damaged."""
    cv2 = import_cv2()
    image = load_image(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        state = "damaged" if Path(path).is_file() else "missing"
        raise UserError(f"{path}: {what} of the capture is {state}; preprocess the video again")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_pair(files: FrameFiles, position: int, image: np.ndarray, alpha: np.ndarray) -> None:
    """Writes one frame, uint8 [H, W, 3] and alpha [H, W] in [0, 1] or uint8, the background's
    colour removed."""
    from likeness.preprocess.matting import foreground

    alpha = _to_uint8(alpha)
    colours = foreground.estimate(image, alpha)
    write_bytes(files.image(position), _png(colours))
    # last: its presence says that the frame is finished
    write_bytes(files.matte(position), _png(alpha))


def _to_uint8(alpha: np.ndarray) -> np.ndarray:
    import numpy as np

    if alpha.dtype == np.uint8:
        return alpha
    return np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def _png(image: np.ndarray) -> bytes:
    cv2 = import_cv2()
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # its default is quick to write and to read, 10 % larger
    return cv2.imencode(".png", stored)[1].tobytes()
