"""What drives an avatar: head states with times, and images of the driver where there are any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from likeness.playback.transfer.retarget import MotionProfile
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

if TYPE_CHECKING:
    import numpy as np

    from likeness.fitting.bundle import AvatarBundle


@dataclasses.dataclass(frozen=True)
class Recording:
    """A driver whose frames are all known.

    states: [T] in the avatar's names of expressions and joints. times: [T] seconds, ascending,
    float64. fps: frames per second, on average. images: gives the image [H, W, 3] of a frame (in
    [0, 1], or uint8 RGB), and K [3, 3] are its intrinsics in pixels; both None where there are no
    images.
    """

    name: str
    states: HeadState
    times: Tensor
    fps: float
    images: Callable[[int], np.ndarray] | None = None
    K: Tensor | None = None

    def __post_init__(self) -> None:
        if self.times.shape != self.states.batch_shape or len(self.times) == 0:
            shapes = list(self.states.batch_shape), list(self.times.shape)
            raise ValueError(f"Recording: expected times {shapes[0]}, got {shapes[1]}")

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[HeadState]:
        return (self.states[index] for index in range(len(self)))

    def frames_at(self, fps: float) -> list[int]:
        """The frame to show at each step of a film of ``fps``: the last one that has begun, so that
        gaps stand still."""
        count = int(round(float(self.times[-1] - self.times[0]) * fps)) + 1
        clock = self.times[0] + (torch.arange(count, dtype=torch.float64) + 0.5) / fps
        begun = torch.searchsorted(self.times, clock, right=True)
        return (begun - 1).clamp(0, len(self) - 1).tolist()


@dataclasses.dataclass(frozen=True)
class LiveFrame:
    """One frame of a live driver.

    state: [] in the avatar's names. time_s: its moment in the stream. image: uint8 [H, W, 3], seen
    at ``seen_s`` (by time.perf_counter). profile: the driver's, from calibration. detection_s,
    tracking_s: what the state cost.
    """

    state: HeadState
    time_s: float
    image: np.ndarray
    seen_s: float
    profile: MotionProfile
    detection_s: float
    tracking_s: float


class LiveDriver(Protocol):
    """A driver whose future is not known. fps: its rate, on average."""

    name: str
    fps: float

    def frames(self) -> Iterator[LiveFrame]:
        """From the end of its calibration on, without end where it has none."""
        ...


@dataclasses.dataclass(frozen=True)
class DriverOptions:
    """What opening a driver may need.

    fps: the rate in which a file counts its frames; found if None. cache: folder for captures made
    of videos. weights, download: where weights for preprocessing come from. progress: bars for long
    work.
    """

    fps: float | None = None
    cache: Path | None = None
    weights: Path | None = None
    download: bool = True
    device: str = "cpu"
    progress: bool = False


@dataclasses.dataclass(frozen=True)
class DriverKind:
    """One kind of driver.

    load: opens a source for an avatar; raises UserError when it is missing or damaged. recognizes:
    whether an existing file or folder is of this kind, by its content. reads_fps: whether
    ``DriverOptions.fps`` means something to it.
    """

    load: Callable[[str, AvatarBundle, DriverOptions], Any]
    recognizes: Callable[[Path], bool] = lambda path: False
    reads_fps: bool = False


def in_names_of(
    bundle: AvatarBundle,
    states: HeadState,
    expressions: tuple[str, ...],
    joints: tuple[str, ...],
    source: Path | str,
) -> HeadState:
    """States [T] whose columns are named ``expressions`` and ``joints``, in the avatar's order.

    Raises UserError when the avatar needs a name that is not there.
    """

    def columns(what: str, wanted: tuple[str, ...], present: tuple[str, ...]) -> list[int]:
        for name in wanted:
            if name not in present:
                raise UserError(
                    f"{source}: has no {what} {name!r}, which the avatar needs (its head model is "
                    f"{bundle.head_model}); give a driver of the same head model"
                )
        return [present.index(name) for name in wanted]

    return dataclasses.replace(
        states,
        expression=states.expression[
            :, columns("expression", bundle.expression_names, expressions)
        ],
        joints=states.joints[:, columns("joint", bundle.joint_names, joints)],
    )
