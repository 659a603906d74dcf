"""Work files of unfinished captures: the result of each stage, read again after an interruption,
or made anew."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from likeness.preprocess.frames import FrameFiles
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, write_json
from likeness.scene.image_files import is_whole_png
from likeness.scene.reading import decode_json, read_json
from likeness.scene.tensor_files import Array, read_arrays

if TYPE_CHECKING:
    from likeness.preprocess.tracking.tracker import Tracking

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

clock: Callable[[], float] = time.perf_counter
"""What stages are timed by, in seconds; benchmarks on a shared machine count processor time."""

_PER_FRAME = {
    "expression": ("T", "E"),
    "joints": ("T", "J", 4),
    "T_world_head": ("T", 4, 4),
    "T_world_body": ("T", 4, 4),
    "sway": ("T", "C", 2),
}
_TRACKING = {
    **{name: Array(shape, "real") for name, shape in _PER_FRAME.items()},
    "found": Array(("T",), "bool"),
    "residual_px": Array(("T",), "real", low=0, gaps=True),  # nan where no face was found
    "residual_percent": Array(("T",), "real", low=0, gaps=True),
    "coefficients": Array(("I",), "real"),
    "offsets": Array(("V", 3), "real"),
    "rest": Array((), "text"),
}


class _State(msgspec.Struct):
    source_hash: str
    seconds: dict[str, float]


class _Rest(msgspec.Struct):
    eye_distance_px: float
    saturated: dict[str, float]
    energy: list[float]
    seconds: float


class Work:
    """The work files of one capture: whose they are, what is in them, and how long each stage took
    in all.

    A file that its reader refuses is a matter of time, not of the user: it is logged in one line,
    and that stage and all after it are done again. Raises UserError where ``folder`` holds work
    with another ``key``, or there is none but images beside it.
    """

    def __init__(self, folder: Path, key: str, progress: bool) -> None:
        self.folder, self.progress = folder, progress
        self._state_path = folder / "state.json"
        if not folder.is_dir() and FrameFiles(folder.parent).present():
            raise UserError(
                f"{folder.parent}: holds images already, not of this video; choose another folder"
            )
        state = usable(
            self._state_path, lambda path: read_json(path, _State, "state of preprocessing")
        )
        self._anew = state is None  # whose files lie there is not known
        if state is not None and state.source_hash != key:
            raise UserError(
                f"{folder.parent}: holds unfinished work on another video or other settings, or "
                "of an older version; choose another folder"
            )
        self._state = state or _State(key, {})
        self._write_state()

    @staticmethod
    def key(folder: Path) -> str | None:
        """Whose work files lie there, None where that cannot be told."""
        with contextlib.suppress(UserError):
            return read_json(folder / "state.json", _State, "state of preprocessing").source_hash
        return None

    def result(
        self,
        name: str,
        read: Callable[[Path], _T],
        make: Callable[[], _T],
        save: Callable[[Path, _T], None],
    ) -> _T:
        """What a stage finds: from its file ``name`` where that can be used, else made and kept
        there."""
        path = self.folder / name
        value = None if self._anew else usable(path, read)
        if value is None:
            self._anew = True
            path.unlink(missing_ok=True)
            value = make()
            save(path, value)
        return value

    def frames(self, files: FrameFiles) -> None:
        """Removes images of an interrupted run that are damaged, or that belong to a result which
        is gone."""
        for path in files.present():
            if not self._anew:
                if is_whole_png(path):
                    continue
                _log.warning("%s: damaged; it is made anew", path)
            path.unlink()

    def checkpoint(self, name: str) -> Path:
        """Where a stage that saves itself does so."""
        path = self.folder / name
        if self._anew:
            path.unlink(missing_ok=True)
        return path

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent, also when the stage is interrupted."""
        begun = clock()
        try:
            yield
        finally:
            spent = self._state.seconds.get(name, 0.0) + clock() - begun
            self._state.seconds[name] = round(spent, 3)
            # a full disk has been reported by the stage itself
            with contextlib.suppress(UserError, OSError):
                self._write_state()

    def seconds(self) -> dict[str, float]:
        """Of each stage so far, and in all."""
        return {**self._state.seconds, "total": round(sum(self._state.seconds.values()), 3)}

    def _write_state(self) -> None:
        write_json(self._state_path, msgspec.to_builtins(self._state))


def usable(path: Path, read: Callable[[Path], _T]) -> _T | None:
    """What a work file holds; None where there is none, or one that ``read`` refuses by a
    UserError, which is logged and removed."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except UserError as error:
        _log.warning("%s (this is done now)", error)
        path.unlink()
        return None


def save_tracking(path: Path, tracking: Tracking) -> None:
    """Writes a tracked clip as npz, whole or not at all."""
    rest = {
        "eye_distance_px": tracking.eye_distance_px,
        "saturated": tracking.saturated,
        "energy": tracking.energy,
    }
    arrays = {
        **{name: tensor.numpy() for name, tensor in tracking.states.to_tensors().items()},
        "coefficients": tracking.identity.coefficients.numpy(),
        "offsets": tracking.identity.offsets.numpy(),
        "found": tracking.found.numpy(),
        "residual_px": tracking.residual_px.numpy(),
        "residual_percent": tracking.residual_percent.numpy(),
        "rest": np.array(json.dumps({**rest, "seconds": tracking.seconds})),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_tracking(path: Path, num_frames: int) -> Tracking:
    """Reads what ``save_tracking`` wrote of a clip of that length. Raises UserError for anything
    else."""
    import torch

    from likeness.preprocess.tracking.tracker import Tracking
    from likeness.scene.capture import Identity
    from likeness.scene.head_state import HeadState

    arrays = read_arrays(path, "tracked clip", _TRACKING, {"T": num_frames})
    rest = decode_json(str(arrays.pop("rest")), _Rest, path, "tracked clip")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Tracking(
        states=HeadState.from_tensors(tensors),
        identity=Identity(tensors["coefficients"], tensors["offsets"]),
        **{name: tensors[name] for name in ("found", "residual_px", "residual_percent")},
        eye_distance_px=rest.eye_distance_px,
        saturated=rest.saturated,
        energy=tuple(rest.energy),
        seconds=rest.seconds,
    )
