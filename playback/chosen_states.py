"""Which states are shown: a frame of the recording, a named expression, a sequence, or all frames
of a file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.expression_names import coefficients
from likeness.playback.state_file import load_states
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState

RECORDING = "recording"
FPS = 25.0
"""Frames per second of what has no rate of its own."""


@dataclasses.dataclass(frozen=True)
class ChosenStates:
    """states: [T]. fps: their rate. moving: whether they follow each other in time, else there is
    one."""

    states: HeadState
    fps: float
    moving: bool


def one_frame(bundle: AvatarBundle, frame: int | None) -> ChosenStates:
    """A frame of the recording by its number, or the neutral head at the mean pose if none is
    given."""
    if frame is None:
        return ChosenStates(bundle.default_state.map(lambda tensor: tensor[None]), FPS, False)
    length = len(bundle.recording)
    if not 0 <= frame < length:
        raise UserError(f"--frame {frame}: the recording has the frames 0 to {length - 1}")
    return ChosenStates(bundle.recording[frame : frame + 1], FPS, False)


def sequence(
    bundle: AvatarBundle, source: str, start: float | None, end: float | None
) -> ChosenStates:
    """The recording or the states of a file, from ``start`` to ``end`` in seconds (end excluded).

    Raises UserError when the file is not one of states of this avatar, or nothing lies between
    start and end.
    """
    if source == RECORDING:
        states, times, fps = bundle.recording, bundle.times, rate_of(bundle.times)
    else:
        states, fps = load_states(Path(source), bundle.expression_names, bundle.joint_names)
        times = torch.arange(len(states), dtype=torch.float64) / fps
    inside = (times >= (0.0 if start is None else start)) & (
        times < (math.inf if end is None else end)
    )
    if not inside.any():
        raise UserError(
            f"{source}: no frame lies between --start and --end; it has {len(times)} frames, "
            f"from {float(times[0]):.2f} to {float(times[-1]):.2f} seconds"
        )
    return ChosenStates(states[inside], fps, True)


def rate_of(times: torch.Tensor) -> float:
    """Frames per second of times [T] in seconds, by their usual distance; FPS for a single one."""
    if len(times) < 2:
        return FPS
    step = float(times.diff().median())
    return 1 / step if step > 0 else FPS


def parse_expression(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """``jawOpen=0.7,smile=0.5`` as coefficients by full names; see ``expression_names``.

    Raises UserError for an unknown name, a value that is no finite number, or a repeated name.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(f"--expression: expected NAME=VALUE,..., got {part.strip()!r}")
        if name in values:
            raise UserError(f"--expression: {name} is given twice")
        try:
            values[name] = float(number)
        except ValueError:
            raise UserError(f"--expression: {name}: expected a number, got {number!r}") from None
    return coefficients(values, names)


def with_expression(
    chosen: ChosenStates, values: dict[str, float], names: tuple[str, ...]
) -> ChosenStates:
    """The same states with some coefficients replaced by the values given."""
    expression = chosen.states.expression.clone()
    for name, value in values.items():
        expression[..., names.index(name)] = value
    return dataclasses.replace(
        chosen, states=dataclasses.replace(chosen.states, expression=expression)
    )
