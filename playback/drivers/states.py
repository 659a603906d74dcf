"""A file of head states (``likeness.playback.state_file``) as a driver."""

from __future__ import annotations

from pathlib import Path

import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.drivers.base import DriverOptions, Recording
from likeness.playback.state_file import load_states


def recognizes(path: Path) -> bool:
    """Whether a file is an npz (a zip archive by its first bytes)."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def load(path: Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """Reads the states of a file in the avatar's names. ``options.fps`` replaces the rate that the
    file states."""
    states, fps = load_states(path, bundle.expression_names, bundle.joint_names)
    fps = options.fps or fps
    return Recording(
        Path(path).name, states, torch.arange(len(states), dtype=torch.float64) / fps, fps
    )
