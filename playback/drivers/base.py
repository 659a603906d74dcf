"""What drives an avatar: an iterable of head states with times, and pictures of the one who drives
where there are any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

if TYPE_CHECKING:
    import numpy as np

    from likeness.fitting.bundle import AvatarBundle


class Driver(Protocol):
    """An iterable of states [] in the avatar's names of expressions and joints.

    ``fps``: frames per second, on average. ``picture(index)``: the driver's picture [H, W, 3] in
    [0, 1] or uint8 RGB, or None where there is none.
    """

    name: str
    fps: float

    def __iter__(self) -> Iterator[HeadState]: ...

    def picture(self, index: int) -> np.ndarray | None: ...


@dataclasses.dataclass(frozen=True)
class Recording:
    """A driver whose frames are all known.

    states: [T]. times: [T] seconds, ascending, float64. pictures: gives the picture of a frame, and
    K [3, 3] are their intrinsics in pixels; both None where there are no pictures.
    """

    name: str
    states: HeadState
    times: Tensor
    fps: float
    pictures: Callable[[int], np.ndarray] | None = None
    K: Tensor | None = None

    def __post_init__(self) -> None:
        if self.times.shape != self.states.batch_shape or len(self.times) == 0:
            raise ValueError(
                f"Recording: expected times {list(self.states.batch_shape)}, got {list(self.times.shape)}"
            )

    def __iter__(self) -> Iterator[HeadState]:
        return (self.states[index] for index in range(len(self.times)))

    def __len__(self) -> int:
        return len(self.times)

    def picture(self, index: int) -> np.ndarray | None:
        return None if self.pictures is None else self.pictures(index)

    def shown_at(self, fps: float) -> list[int]:
        """Which frame to show at each step of a film of ``fps``: the last one that has begun, so
        that gaps stand still."""
        count = int(round(float(self.times[-1] - self.times[0]) * fps)) + 1
        clock = self.times[0] + (torch.arange(count, dtype=torch.float64) + 0.5) / fps
        return (
            (torch.searchsorted(self.times, clock, right=True) - 1).clamp(0, len(self) - 1).tolist()
        )


@dataclasses.dataclass(frozen=True)
class DriverOptions:
    """What opening a driver may need.

    fps: the rate in which a file counts its frames, where it is not to be found out. cache: folder
    for captures made of videos. weights, download: where weights for preprocessing come from.
    progress: bars for long work.
    """

    fps: float | None = None
    cache: Path | None = None
    weights: Path | None = None
    download: bool = True
    device: str = "cpu"
    progress: bool = False


def in_names_of(
    bundle: AvatarBundle,
    states: HeadState,
    expressions: tuple[str, ...],
    joints: tuple[str, ...],
    source: Path,
) -> HeadState:
    """States [T] whose columns bear the names ``expressions`` and ``joints``, in the order of the
    avatar.

    Raises UserError when the avatar needs a name that is not there.
    """
    index = []
    for what, wanted, present in (
        ("expression", bundle.expression_names, expressions),
        ("joint", bundle.joint_names, joints),
    ):
        missing = [name for name in wanted if name not in present]
        if missing:
            raise UserError(
                f"{source}: has no {what} {missing[0]!r}, which the avatar needs (its head model is "
                f"{bundle.head_model}); give a driver of the same head model"
            )
        index.append([present.index(name) for name in wanted])
    return HeadState(
        states.expression[:, index[0]],
        states.joints[:, index[1]],
        states.T_world_head,
        states.T_world_body,
        states.sway,
    )
