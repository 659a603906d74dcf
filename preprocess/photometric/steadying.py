"""Poses without their jitter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from likeness.preprocess.tracking.priors import Timeline, acceleration_prior
from likeness.preprocess.tracking.solver import solve_in_time
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, matrices_to_rotvecs, rotvecs_to_matrices

_MAX_GAP_S = 0.5  # as in tracking: frames further apart are not tied to each other


def steadied_states(states: HeadState, times: Sequence[float], stiffness: float) -> HeadState:
    """States [T] at ``times`` [T] seconds whose heads and bodies shake less (``steadied``)."""
    poses = {
        name: steadied(getattr(states, name), np.array(times), stiffness, _MAX_GAP_S)
        for name in ("T_world_head", "T_world_body")
    }
    return dataclasses.replace(states, **poses)


def steadied(poses: Tensor, times: np.ndarray, stiffness: float, max_gap_s: float) -> Tensor:
    """Poses [T, 4, 4] at ``times`` [T] seconds that change their velocity less, and are near the
    given ones.

    Minimises the squared distance from the given poses plus ``stiffness`` times the squared second
    difference in time (stated for 30 frames per second): at 0.2 noise that is independent from
    frame to frame loses a third, and a nod of four times a second keeps nine tenths of its angle.
    Frames further apart than ``max_gap_s`` are not tied.
    """
    if stiffness <= 0 or len(poses) < 3:
        return poses
    given = poses.double()
    turns = matrices_to_rotvecs(given[1:, :3, :3] @ given[:-1, :3, :3].mT)
    changes = torch.cat([turns, given[:, :3, 3].diff(dim=0)], -1).numpy()
    prior = acceleration_prior(
        changes, Timeline.from_times(times, max_gap_s), np.full(6, stiffness)
    )
    blocks = np.eye(6) * (1 + prior.diagonal)[:, :, None]
    moves = torch.from_numpy(solve_in_time(blocks, prior.first, prior.second, -prior.gradient))
    rotation = rotvecs_to_matrices(moves[:, :3]) @ given[:, :3, :3]
    return make_transform(rotation, given[:, :3, 3] + moves[:, 3:]).to(poses)
