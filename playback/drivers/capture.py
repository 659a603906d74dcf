"""Other people's captures, runs and avatars as drivers: tracked already, so that nothing needs
preprocessing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.chosen_states import rate_of
from likeness.playback.drivers.base import DriverOptions, Recording, in_names_of
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.reading import read_json


class _Kind(msgspec.Struct):
    format: Any = None


def kind_of(folder: Path) -> str | None:
    """``run``, ``capture`` or ``avatar`` by the manifest in a folder; None when there is none."""
    for name in ("run.json", "manifest.json"):
        if (Path(folder) / name).is_file():
            with contextlib.suppress(UserError):
                found = read_json(Path(folder) / name, _Kind, "manifest").format
                if found in ("run", "capture", "avatar"):
                    return found
    return None


def recognizes_run(path: Path) -> bool:
    return kind_of(path) in ("run", "avatar")


def recognizes_capture(path: Path) -> bool:
    return kind_of(path) == "capture"


def load_run(
    path: Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()
) -> Recording:
    """The capture of a run, with its pictures; of a bundle alone, the recording inside it, without
    any."""
    if kind_of(path) != "avatar":
        return load_capture(Path(path) / "capture", bundle, options)
    other = AvatarBundle.load(path)
    if len(other.times) < 2:
        raise UserError(f"{path}: this avatar holds no recording; give the run that it comes from")
    states = in_names_of(bundle, other.recording, other.expression_names, other.joint_names, path)
    return Recording(Path(path).name, states, other.times, rate_of(other.times))


def load_capture(
    path: Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()
) -> Recording:
    """All frames of a capture, training and test, with its pictures on white."""
    capture = Capture.load(path)
    states = in_names_of(
        bundle, capture.states, capture.expression_names, capture.joint_names, path
    )
    times = torch.tensor([frame.time_s for frame in capture.frames], dtype=torch.float64)

    def picture(index: int) -> np.ndarray:
        return composite(load_rgba(capture.frames[index])).numpy()

    return Recording(name_of(path), states, times, capture.fps, picture, capture.frames[0].camera.K)


def name_of(path: Path) -> str:
    """A name for people: of the run that a capture is in."""
    path = Path(path).absolute()
    return path.parent.name if path.name == "capture" else path.name
