"""The head tracker: a batch fit of the head model to a clip's landmarks."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import EYE_CORNERS, NUM_LANDMARKS
from likeness.preprocess.tracking import gaze
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.initialization import initial_poses
from likeness.preprocess.tracking.motion import Motion, Observations, frame_weights, step
from likeness.preprocess.tracking.outline import residual_metric
from likeness.preprocess.tracking.priors import Timeline
from likeness.preprocess.tracking.projection import project
from likeness.preprocess.tracking.rig import LandmarkRig, build_rig
from likeness.preprocess.tracking.shape import ShapeBasis, build_shape_basis, shape_step
from likeness.scene.capture import Identity
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    make_transform,
    matrices_to_quats,
    mean_transform,
    normalize_quats,
    quats_to_matrices,
)

_log = logging.getLogger(__name__)

SATURATED = 0.99


@dataclasses.dataclass(frozen=True)
class Tracking:
    """A tracked clip, T frames.

    states: HeadState [T]; the world is the camera's frame, and the body stands at the mean head
        pose.
    identity: the person's shape. found: [T] whether the frame had landmarks; others are filled from
        their neighbours.
    residual_px: [T] root mean square distance of the 478 detected landmarks from those of the posed
        model; nan where not found. residual_percent: [T] the same in per cent of
        ``eye_distance_px``.
    eye_distance_px: median distance of the outer eye corners (landmarks 33 and 263) over the clip.
    saturated: expression -> share of found frames with a coefficient of 0.99 or more; only those
        above zero.
    energy: per frame in squared per cent, before each outer iteration. seconds: of wall time.
    """

    states: HeadState
    identity: Identity
    found: Tensor
    residual_px: Tensor
    residual_percent: Tensor
    eye_distance_px: float
    saturated: dict[str, float]
    energy: tuple[float, ...]
    seconds: float

    @property
    def iterations(self) -> int:
        """Outer iterations done."""
        return len(self.energy)

    def take(self, index: Tensor) -> Tracking:
        """The frames at an index or mask."""
        names = ("states", "found", "residual_px", "residual_percent")
        part: dict[str, Any] = {name: getattr(self, name)[index] for name in names}
        return dataclasses.replace(self, **part)


def _one_thread(function):
    """Thousands of small matrices: two threads gain little, and lose a factor of ten when one waits
    for a core."""

    @functools.wraps(function)
    def bounded(*args, **kwargs):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return bounded


@_one_thread
def track(
    landmarks: Tensor,
    confidence: Tensor,
    K: Tensor,
    model: HeadModel,
    fps: float,
    config: TrackerConfig | None = None,
    progress: bool = False,
    times: Tensor | None = None,
) -> Tracking:
    """Fits a head model to FaceMesh's landmarks of a clip.

    landmarks: [T, 478, 2] pixels. confidence: [T, 478] in [0, 1]; a frame whose row is all zero was
        not found.
    K: [3, 3] intrinsics in pixels, held fixed (a talking head does not show the focal length).
        model: a HeadModel.
    times: [T] seconds, where frames are not 1 / fps apart.
    One energy over all frames is lowered by turns: poses and expressions of all frames
    (Gauss-Newton, bounds by an active set, banded in time), the shape they share, the gaze. Raises
    UserError for fewer found frames than ``config.min_frames``.
    """
    config = config or TrackerConfig()
    begun = time.perf_counter()
    landmarks, confidence, K = (
        torch.as_tensor(x).double().cpu() for x in (landmarks, confidence, K)
    )
    _check_inputs(landmarks, confidence, K)
    num_frames = len(landmarks)
    clock = (
        np.arange(num_frames) / fps if times is None else torch.as_tensor(times).double().numpy()
    )
    found = (confidence.sum(-1) > 0) & torch.isfinite(landmarks).all(-1).all(-1)
    if int(found.sum()) < config.min_frames:
        raise UserError(
            f"tracking: the face was found in {int(found.sum())} of {num_frames} frames, and at "
            "least "
            f"{config.min_frames} are needed; use a video in which the face is visible and large"
        )
    basis = build_shape_basis(model, config)
    rig = build_rig(model, basis.landmarks, config)
    observed, motion = _start(
        landmarks[found], confidence[found], K, rig, clock[found.numpy()], config
    )
    motion, angles, coefficients, energies = _alternate(
        model, rig, basis, observed, motion, config, progress
    )
    coefficients = _snapped(coefficients, basis, motion, rig, observed, config)

    states = _states(motion, angles, rig, clock, found)
    identity = _identity(coefficients, basis)
    residual_px = measure_residuals(landmarks, K, model, identity, states)
    residual_px[~found] = torch.nan
    eye_distance = eye_distance_px(landmarks[found])
    high = (states.expression[found] >= SATURATED).double().mean(0)
    result = Tracking(
        states=states,
        identity=identity,
        found=found,
        residual_px=residual_px,
        residual_percent=residual_px * (100 / eye_distance),
        eye_distance_px=eye_distance,
        saturated={
            name: float(share) for name, share in zip(model.expression_names, high) if share > 0
        },
        energy=tuple(energies),
        seconds=time.perf_counter() - begun,
    )
    _log.info(
        "tracked %d frames in %.1f s: residual %.2f %% of the eye distance (median)",
        num_frames,
        result.seconds,
        float(result.residual_percent[found].median()),
    )
    return result


def eye_distance_px(landmarks: Tensor) -> float:
    """Median distance of the outer eye corners over landmarks [T, L, 2] pixels."""
    right, left = EYE_CORNERS
    return float((landmarks[:, right] - landmarks[:, left]).norm(dim=-1).median())


def measure_residuals(
    landmarks: Tensor, K: Tensor, model: HeadModel, identity: Identity, states: HeadState
) -> Tensor:
    """[T] root mean square distances in pixels of landmarks [T, L, 2] from those of the posed
    model, with all its rules."""
    shaped = model.shaped(identity)
    expected = []
    for start in range(0, len(landmarks), 64):
        part = states[start : start + 64]
        pose = part.T_world_head.double()
        points = shaped.posed(part).landmarks().double()
        expected.append(project(K, pose[:, :3, :3], pose[:, :3, 3], points)[0])
    return (torch.cat(expected) - landmarks).square().sum(-1).mean(-1).sqrt().float()


def _percent_per_pixel(K: Tensor, translation: Tensor, rig: LandmarkRig) -> Tensor:
    """[T]: a pixel in per cent of the eye distance that the mean head would show at its depth, seen
    from the front."""
    return 100 * translation[:, 2] / (K[0, 0] * rig.eye_distance)


def _check_inputs(landmarks: Tensor, confidence: Tensor, K: Tensor) -> None:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 2):
        raise ValueError(
            f"track: expected landmarks [T, {NUM_LANDMARKS}, 2], got {list(landmarks.shape)}"
        )
    if confidence.shape != landmarks.shape[:2]:
        raise ValueError(
            f"track: expected confidence {list(landmarks.shape[:2])}, got {list(confidence.shape)}"
        )
    if K.shape != (3, 3):
        raise ValueError(f"track: expected one K [3, 3], got {list(K.shape)}")


def _start(
    points: Tensor,
    confidence: Tensor,
    K: Tensor,
    rig: LandmarkRig,
    clock: np.ndarray,
    config: TrackerConfig,
) -> tuple[Observations, Motion]:
    """Observations and first poses of the found frames."""
    weights = confidence * rig.weights
    rotation, translation = initial_poses(K, rig.rest, points, weights)
    scale = _percent_per_pixel(K, translation, rig)
    metric = residual_metric(points, rig.rest, config) * scale[:, None, None, None]
    observed = Observations(
        K, points, weights, metric, scale, Timeline.from_times(clock, config.max_gap_s)
    )
    controls = torch.zeros(len(points), len(rig.control_names), dtype=torch.float64)
    gaze_expression = torch.zeros(len(points), rig.expression.shape[0], dtype=torch.float64)
    return observed, Motion(rotation, translation, controls, gaze_expression)


def _alternate(
    model: HeadModel,
    rig: LandmarkRig,
    basis: ShapeBasis,
    observed: Observations,
    motion: Motion,
    config: TrackerConfig,
    progress: bool,
) -> tuple[Motion, Tensor, Tensor, list[float]]:
    """The outer iterations; returns motion, gaze angles [T, 2, 2], shape coefficients [S] and the
    energies."""
    from tqdm import tqdm

    coefficients = torch.zeros(len(basis.prior), dtype=torch.float64)
    angles = torch.zeros(len(observed), 2, 2, dtype=torch.float64)
    names = tuple(model.expression_names)
    energies: list[float] = []
    bar = tqdm(range(config.iterations), desc="tracking", unit="iteration", disable=not progress)
    for iteration in bar:
        full = iteration >= config.pose_iterations
        neutral = rig.neutral(coefficients)
        personal = rig.of_person(neutral)
        motion, energy, losses = step(
            motion, neutral, personal, observed, config, move_expression=full
        )
        energies.append(energy + 0.5 * float((basis.prior * coefficients**2).sum()))
        bar.set_postfix_str(f"residual {float((2 * losses.median()).sqrt()):.2f} %")
        if not full:
            continue
        trust = frame_weights(losses, config)
        coefficients = shape_step(coefficients, basis, motion, personal, observed, trust, config)
        centers = model.shaped(_identity(coefficients, basis)).joint_centers.double()
        angles = gaze.gaze_step(
            angles, rig.neutral(coefficients), centers, motion, observed, config
        )
        motion = dataclasses.replace(motion, gaze_expression=gaze_expression(angles, names))
        if (
            iteration > config.pose_iterations + 2
            and abs(energies[-2] - energies[-1]) < config.tolerance * energies[-1]
        ):
            break
    bar.close()
    return motion, angles, coefficients, energies


def _snapped(
    coefficients: Tensor,
    basis: ShapeBasis,
    motion: Motion,
    rig: LandmarkRig,
    observed: Observations,
    config: TrackerConfig,
) -> Tensor:
    """The shape [S] after ``config.snap_steps``."""
    prior = basis.prior.clone()
    prior[basis.num_identity :] *= config.snap_relief
    eased = dataclasses.replace(basis, prior=prior)
    trust = torch.ones(len(observed), dtype=torch.float64)
    for _ in range(config.snap_steps):
        personal = rig.of_person(rig.neutral(coefficients))
        coefficients = shape_step(coefficients, eased, motion, personal, observed, trust, config)
    return coefficients


def _identity(coefficients: Tensor, basis: ShapeBasis) -> Identity:
    """The shape coefficients in the head model's terms."""
    count = basis.num_identity
    offsets = torch.einsum("s,svd->vd", coefficients[count:], basis.vertices[count:])
    return Identity(coefficients[:count].float(), offsets.float())


def _states(
    motion: Motion, angles: Tensor, rig: LandmarkRig, clock: np.ndarray, found: Tensor
) -> HeadState:
    """States of all frames: those found, and between them (or beyond the ends) what lies between
    their neighbours."""
    joints = gaze_quats(angles)
    index = torch.from_numpy(np.interp(clock, clock[found.numpy()], np.arange(int(found.sum()))))
    low = index.floor().long()
    high = index.ceil().long()
    mix = (index - low)[:, None]

    def between(values: Tensor) -> Tensor:
        return torch.lerp(values[low], values[high], mix.reshape(-1, *[1] * (values.ndim - 1)))

    def between_quats(quats: Tensor) -> Tensor:
        near, far = quats[low], quats[high]
        far = torch.where((near * far).sum(-1, keepdim=True) < 0, -far, far)
        return normalize_quats(torch.lerp(near, far, mix.reshape(-1, *[1] * (quats.ndim - 1))))

    rotation = quats_to_matrices(between_quats(matrices_to_quats(motion.rotation)))
    pose = make_transform(rotation, between(motion.translation)).float()
    return HeadState(
        expression=between(motion.expression(rig)).clamp(0, 1).float(),
        joints=between_quats(joints).float(),
        T_world_head=pose,
        T_world_body=mean_transform(pose[found]).expand_as(pose).clone(),
    )
