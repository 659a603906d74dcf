"""Gaze from the irises: rotations of the eyeballs (what they mean: ``likeness.scene.gaze``)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.landmarks import EYE_WIDTHS, IRISES, LID_PAIRS
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.motion import Motion, Observations
from likeness.preprocess.tracking.priors import Timeline
from likeness.preprocess.tracking.projection import project
from likeness.scene.gaze import EYES, gaze_quats
from likeness.scene.transforms import quats_to_matrices

MAX_YAW, MAX_PITCH = math.radians(40.0), math.radians(30.0)
_MAX_SQUINT = math.radians(6.0)
# of the clip's wide-open eye: below, the iris is not believed; above, fully
_SHUT, _OPEN = 0.35, 0.6
UNIT = 0.1  # radians


def eye_openness(points: Tensor, eye: str, least: float = 0.0) -> Tensor:
    """[T] the opening of an eye relative to the clip's open eye (at least ``least``); from pixels
    [T, L, 2]."""
    ratio = opening(points, eye)
    return ratio / ratio.quantile(0.8).clamp_min(max(least, 1e-6))


def opening(points: Tensor, eye: str) -> Tensor:
    """[T] height of the lid gap over the width of the eye; from pixels [T, L, 2]."""
    gaps = [(points[:, a] - points[:, b]).norm(dim=-1) for a, b in LID_PAIRS[eye][:3]]
    a, b = EYE_WIDTHS[eye]
    return torch.stack(gaps).mean(0) / (points[:, a] - points[:, b]).norm(dim=-1).clamp_min(1e-6)


def trust(openness: Tensor) -> Tensor:
    """How far the iris of an eye is believed, by its openness: not at all when shut, fully when
    open."""
    return ((openness - _SHUT) / (_OPEN - _SHUT)).clamp(0, 1)


def gaze_step(
    angles: Tensor,
    neutral: Tensor,
    centers: Tensor,
    motion: Motion,
    observed: Observations,
    config: TrackerConfig,
) -> Tensor:
    """Gauss-Newton on the gaze angles [T, 2, 2] (left and right eye; yaw, pitch), at fixed head
    poses.

    neutral [L, 3]: the person's landmarks at rest; centers [2, 3]: the eyeballs' centres, left
    first. The irises' residuals hold the angles where the eye is open, and smoothness carries them
    through blinks. A small constant squint comes from the model's distance of the eyes, and is
    taken out.
    """
    irises = torch.tensor(IRISES)
    belongs = (neutral[irises, None] - centers).norm(dim=-1).argmin(-1)
    result = angles.clone()
    for index, eye in enumerate(EYES):
        mine = irises[belongs == index]
        believed = trust(eye_openness(observed.points, eye, config.open_eye)) * (
            observed.weights.sum(-1) > 0
        )
        matrix, right = iris_terms(
            angles[:, index], neutral[mine], centers[index], mine, motion, observed
        )
        matrix, right = matrix * believed[:, None, None], right * believed[:, None]
        result[:, index] = _smooth_solution(
            angles[:, index], matrix, right, observed.timeline, config
        )
    squint = (0.5 * (result[:, 0, 0] - result[:, 1, 0]).median()).clamp(-_MAX_SQUINT, _MAX_SQUINT)
    result[..., 0] -= torch.stack([squint, -squint])
    # Eyes turn together up and down.
    result[..., 1] = result[..., 1].mean(-1, keepdim=True)
    limits = torch.tensor([MAX_YAW, MAX_PITCH], dtype=angles.dtype)
    return torch.minimum(torch.maximum(result, -limits), limits)


def iris_terms(
    angles: Tensor,
    rest: Tensor,
    center: Tensor,
    indices: Tensor,
    motion: Motion,
    observed: Observations,
) -> tuple[Tensor, Tensor]:
    """Normal matrices [T, 2, 2] and right sides [T, 2] of one eye's iris residuals, in units of 0.1
    rad."""

    def points(angles: Tensor) -> Tensor:
        return center + (rest - center) @ quats_to_matrices(gaze_quats(angles)).transpose(-1, -2)

    here = points(angles)
    small = 1e-4
    by_angle = [
        (points(angles + small * axis) - here) / small * UNIT
        for axis in torch.eye(2, dtype=angles.dtype)
    ]
    pixels, by_camera, _ = project(observed.K, motion.rotation, motion.translation, here)
    scale = observed.scale[:, None, None]
    residuals = (pixels - observed.points[:, indices]) * scale
    by_head = (by_camera * scale[..., None]) @ motion.rotation[:, None]
    jacobian = torch.stack([(by_head @ step[..., None])[..., 0] for step in by_angle], -1).flatten(
        1, 2
    )
    # Huber, with a limit of 3 per cent: a tracker of irises that jumps to a brow must not turn the
    # eye.
    size = residuals.norm(dim=-1, keepdim=True)
    weighted = (
        jacobian
        * (3.0 / size.clamp_min(3.0)).expand(-1, -1, 2).flatten(1)[..., None]
        / len(indices)
    )
    weighted = weighted.transpose(-1, -2)
    return weighted @ jacobian, -(weighted @ residuals.flatten(1)[..., None])[..., 0]


def _smooth_solution(
    angles: Tensor, matrix: Tensor, right: Tensor, timeline: Timeline, config: TrackerConfig
) -> Tensor:
    """Angles [T, 2] that minimise the irises' terms and a robust first difference in time; jumps
    cost little more the larger they are, since eyes jump."""
    from scipy.linalg import solveh_banded

    num_frames = len(angles)
    start = angles.numpy() / UNIT
    data = matrix.numpy() + 1e-4 * np.eye(2)
    target = np.einsum("tij,tj->ti", data, start) + right.numpy() - 1e-4 * start
    solution = start
    linked = timeline.linked / timeline.steps
    for _ in range(3):
        jump = np.linalg.norm(np.diff(solution, axis=0), axis=1)
        link = np.maximum(config.gaze_smoothness * linked / (1 + (jump / 0.4) ** 2), 1e-6)[:, None]
        band = np.zeros((3, num_frames, 2))
        band[0] = np.diagonal(data, axis1=1, axis2=2)
        band[1, :, 0] = data[:, 1, 0]
        band[0, 1:] += link
        band[0, :-1] += link
        band[2, :-1] = -link
        solution = solveh_banded(band.reshape(3, -1), target.ravel(), lower=True).reshape(
            num_frames, 2
        )
    return torch.from_numpy(solution * UNIT)
