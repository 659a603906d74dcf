"""Priors in time: how a head may move between frames whose distances in time may differ."""

from __future__ import annotations

import dataclasses

import numpy as np

# Weights are stated for steps of 1/30 s, whatever the clip's rate.
REFERENCE_FPS = 30.0


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The steps between consecutive frames of a clip, T frames.

    steps: [T-1] in units of 1/30 s. linked: [T-1] whether two neighbours belong together (no gap
        between them).
    """

    steps: np.ndarray
    linked: np.ndarray

    @classmethod
    def from_times(cls, times: np.ndarray, max_gap_s: float) -> Timeline:
        """From frames' times [T] in seconds, ascending."""
        seconds = np.diff(times)
        return cls(np.maximum(seconds * REFERENCE_FPS, 1e-3), seconds <= max_gap_s)


@dataclasses.dataclass(frozen=True)
class TimePrior:
    """A quadratic prior on the change of each frame's unknowns: half of x' Q x, with Q banded.

    diagonal: [T, n], first: [T-1, n], second: [T-2, n] bands of Q. gradient: [T, n]. energy: its
        value.
    """

    diagonal: np.ndarray
    first: np.ndarray
    second: np.ndarray
    gradient: np.ndarray
    energy: float


def velocity_prior(changes: np.ndarray, timeline: Timeline, weight: float) -> TimePrior:
    """First differences. ``changes`` [T-1, n]: x[t+1] - x[t]."""
    stiffness = (weight * timeline.linked / timeline.steps)[:, None]
    pull = stiffness * changes
    num_frames, size = len(changes) + 1, changes.shape[1]
    diagonal, gradient = np.zeros((num_frames, size)), np.zeros((num_frames, size))
    diagonal[1:] += stiffness
    diagonal[:-1] += stiffness
    gradient[1:] += pull
    gradient[:-1] -= pull
    first = -np.broadcast_to(stiffness, changes.shape)
    return TimePrior(
        diagonal,
        first,
        np.zeros((max(num_frames - 2, 0), size)),
        gradient,
        0.5 * (pull * changes).sum(),
    )


def acceleration_prior(changes: np.ndarray, timeline: Timeline, weights: np.ndarray) -> TimePrior:
    """Second differences, for steps of any length: the change of velocity over the mean step,
    squared, per time.

    ``changes`` [T-1, n]: x[t+1] - x[t] (for rotations: rotation vectors of one frame relative to
    the one before, all in camera axes). weights: [n].
    """
    num_frames, size = len(changes) + 1, changes.shape[1]
    diagonal, gradient = np.zeros((num_frames, size)), np.zeros((num_frames, size))
    first, second = np.zeros((num_frames - 1, size)), np.zeros((max(num_frames - 2, 0), size))
    if num_frames < 3:
        return TimePrior(diagonal, first, second, gradient, 0.0)
    before, after = 1 / timeline.steps[:-1, None], 1 / timeline.steps[1:, None]
    mean_step = 0.5 * (timeline.steps[:-1] + timeline.steps[1:])
    stiffness = (timeline.linked[:-1] & timeline.linked[1:])[:, None] * weights / mean_step[:, None]
    acceleration = after * changes[1:] - before * changes[:-1]
    factors = (before, -(before + after), after)
    for position, factor in enumerate(factors):
        rows = slice(position, num_frames - 2 + position)
        diagonal[rows] += stiffness * factor**2
        gradient[rows] += stiffness * factor * acceleration
    first[:-1] += stiffness * factors[0] * factors[1]
    first[1:] += stiffness * factors[1] * factors[2]
    second += stiffness * factors[0] * factors[2]
    return TimePrior(diagonal, first, second, gradient, 0.5 * (stiffness * acceleration**2).sum())
