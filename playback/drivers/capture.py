"""Captures, runs and avatars of others as drivers: tracked already, so that nothing needs
preprocessing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.chosen_states import rate_of
from likeness.playback.drivers.base import DriverOptions, Recording, in_names_of
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.reading import read_json


class _Manifest(msgspec.Struct):
    format: Any = None


def manifest_format(folder: Path) -> str | None:
    """``run``, ``capture`` or ``avatar`` by the manifest in a folder; None when there is none."""
    for name in ("run.json", "manifest.json"):
        if (folder / name).is_file():
            with contextlib.suppress(UserError):
                format = read_json(folder / name, _Manifest, "manifest").format
                if format in ("run", "capture", "avatar"):
                    return format
    return None


def is_run(path: Path) -> bool:
    return manifest_format(path) in ("run", "avatar")


def is_capture(path: Path) -> bool:
    return manifest_format(path) == "capture"


def load_run(
    source: str, bundle: AvatarBundle, options: DriverOptions = DriverOptions()
) -> Recording:
    """The capture of a run, with its images; of a bundle alone, the recording inside it, without
    any."""
    path = Path(source)
    if manifest_format(path) != "avatar":
        return load_capture(path / "capture", bundle, options)
    other = AvatarBundle.load(path)
    if len(other.times) < 2:
        raise UserError(f"{path}: this avatar holds no recording; give the run that it comes from")
    states = in_names_of(bundle, other.recording, other.expression_names, other.joint_names, path)
    return Recording(path.name, states, other.times, rate_of(other.times))


def load_capture(
    source: str | Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()
) -> Recording:
    """All frames of a capture, training and test, with its images on white."""
    path = Path(source).absolute()
    capture = Capture.load(Path(source))
    names = capture.expression_names, capture.joint_names
    states = in_names_of(bundle, capture.states, *names, source)
    times = capture.frames.times_s

    def image(index: int) -> np.ndarray:
        return composite(load_rgba(capture.frames[index])).numpy()

    name = path.parent.name if path.name == "capture" else path.name  # of the run that it is in
    return Recording(name, states, times, capture.fps, image, capture.frames[0].camera.K)
