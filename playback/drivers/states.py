"""A file of head states (``likeness.playback.state_file``) as a driver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from likeness.playback.drivers.base import DriverOptions, Recording
from likeness.playback.state_file import load_states

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle


def recognizes(path: Path) -> bool:
    """Whether a file is an npz (a zip archive by its first bytes)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def load(source: str, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """The states of a file in the avatar's names. ``options.fps`` replaces the file's rate."""
    states, fps = load_states(Path(source), bundle.expression_names, bundle.joint_names)
    fps = options.fps or fps
    times = torch.arange(len(states), dtype=torch.float64) / fps
    return Recording(Path(source).name, states, times, fps)
