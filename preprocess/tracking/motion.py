"""Gauss-Newton on poses and expressions of all frames at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.landmarks import IRISES, LID_PAIRS, LIP_PAIRS
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.priors import Timeline, acceleration_prior, velocity_prior
from likeness.preprocess.tracking.projection import (
    ROTATION_UNIT,
    TRANSLATION_UNIT,
    pose_jacobian,
    project,
)
from likeness.preprocess.tracking.rig import LandmarkRig
from likeness.preprocess.tracking.solver import fix, solve_in_time
from likeness.scene.transforms import matrices_to_rotvecs, rotvecs_to_matrices

POSE = 6
_MAX_ROTATION = 0.5  # radians per iteration
_BOUND = 1e-9


@dataclasses.dataclass(frozen=True)
class Observations:
    """What was observed, T frames. K: [3, 3]. points: [T, L, 2] pixels. weights: [T, L] confidence
    times the rig's weights.
    metric: [T, L, 2, 2] per cent of the eye distance per pixel, by direction (outline.py).
    scale: [T] the same without regard to direction."""

    K: Tensor
    points: Tensor
    weights: Tensor
    metric: Tensor
    scale: Tensor
    timeline: Timeline

    def __len__(self) -> int:
        return len(self.points)


@dataclasses.dataclass(frozen=True)
class Motion:
    """The unknowns of all frames: head to camera rotation [T, 3, 3] and translation [T, 3],
    controls [T, C], and the expression coefficients that follow the gaze, [T, E] (zero
    elsewhere)."""

    rotation: Tensor
    translation: Tensor
    controls: Tensor
    gaze_expression: Tensor

    def take(self, frames: slice) -> Motion:
        return Motion(*(values[frames] for values in vars(self).values()))

    def expression(self, rig: LandmarkRig) -> Tensor:
        """Expression coefficients [T, E]."""
        return self.controls @ rig.controls + self.gaze_expression


def robust_weights(
    residuals: Tensor, weights: Tensor, config: TrackerConfig
) -> tuple[Tensor, Tensor]:
    """Weights [T, L] for squared residuals [T, L, 2] (per cent) by Huber's loss, and the loss's
    values [T]."""
    size = residuals.norm(dim=-1)
    limit = config.huber_percent
    factor = (limit / size.clamp_min(limit)).to(weights.dtype)
    loss = torch.where(size <= limit, 0.5 * size**2, limit * (size - 0.5 * limit))
    return weights * factor, (weights * loss).sum(-1)


def frame_weights(losses: Tensor, config: TrackerConfig) -> Tensor:
    """[T] weights that let go of frames whose loss is far above the others' (the detector lost the
    face)."""
    if len(losses) < 3:
        return torch.ones_like(losses)
    limit = losses.median() * config.outlier_frame_factor**2
    return (limit / losses.clamp_min(1e-12)).clamp_max(1.0)


def step(
    motion: Motion,
    neutral: Tensor,
    rig: LandmarkRig,
    observed: Observations,
    config: TrackerConfig,
    move_expression: bool,
    move_pose: bool = True,
) -> tuple[Motion, float, Tensor]:
    """One Gauss-Newton step. ``neutral`` [L, 3]: the person's landmarks at rest.

    Returns the new motion, and the energy per frame and the frames' losses [T] before the step.
    """
    blocks, right, losses = _data_terms(motion, neutral, rig, observed, config, move_expression)
    trust = frame_weights(losses, config).numpy()
    blocks *= trust[:, None, None]
    right *= trust[:, None]
    energy = float((losses.numpy() * trust).sum())
    controls = motion.controls.numpy()
    size = blocks.shape[1]

    index = np.arange(size)
    blocks[:, index[:POSE], index[:POSE]] *= 1 + 1e-3
    blocks[:, index[:POSE], index[:POSE]] += 1e-6
    linear, quadratic = _expression_prior(rig, config)
    if move_expression:
        blocks[:, POSE:, POSE:] += quadratic + 1e-4 * np.eye(size - POSE)
        right[:, POSE:] -= controls @ quadratic + linear
    energy += float(
        (0.5 * np.einsum("tc,cd,td->t", controls, quadratic, controls) + controls @ linear).sum()
    )
    first, second, prior_energy = _add_time_priors(blocks, right, motion, observed.timeline, config)
    energy += prior_energy

    fixed = np.zeros(right.shape, bool)
    fixed[:, :POSE] = not move_pose
    upper = _upper_bounds(controls, rig)
    fixed[:, POSE:] = True
    if move_expression:
        pull = right[:, POSE:]
        fixed[:, POSE:] = ((controls <= _BOUND) & (pull < 0)) | (
            (controls >= upper - _BOUND) & (pull > 0)
        )
    change = solve_in_time(*fix(blocks, first, second, right, fixed))
    return _moved(motion, torch.from_numpy(change), rig), energy / len(observed), losses


def _data_terms(
    motion: Motion,
    neutral: Tensor,
    rig: LandmarkRig,
    observed: Observations,
    config: TrackerConfig,
    move_expression: bool,
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Normal matrices [T, P, P], right sides [T, P] and losses [T] of the landmark residuals.

    Jacobians are single precision and live for one chunk of frames; their normal matrices are
    summed in double.
    """
    num_controls = len(rig.control_names)
    size = POSE + num_controls
    blocks = np.zeros((len(observed), size, size))
    right = np.zeros((len(observed), size))
    losses = torch.zeros(len(observed), dtype=torch.float64)
    landmarks = torch.tensor([index for index in range(rig.rest.shape[0]) if index not in IRISES])
    basis = rig.control_basis[:, landmarks].permute(1, 2, 0).float().contiguous()  # [l, 3, C]
    position = {int(index): row for row, index in enumerate(landmarks)}
    pairs = [*LID_PAIRS["left"], *LID_PAIRS["right"], *LIP_PAIRS]
    one, other = torch.tensor([[position[a], position[b]] for a, b in pairs]).T
    used = size if move_expression else POSE
    expression = motion.expression(rig)
    for start in range(0, len(observed), config.chunk_frames):
        part = slice(start, start + config.chunk_frames)
        rotation, metric = motion.rotation[part], observed.metric[part][:, landmarks]
        shape = neutral + torch.einsum("te,eld->tld", expression[part], rig.expression)
        pixels, by_camera, rotated = project(
            observed.K, rotation, motion.translation[part], shape[:, landmarks]
        )
        residuals = (metric @ (pixels - observed.points[part][:, landmarks])[..., None])[..., 0]
        weights, losses[part] = robust_weights(
            residuals, observed.weights[part][:, landmarks], config
        )
        by_camera = metric @ by_camera
        jacobian = pose_jacobian(by_camera, rotated).float()
        if move_expression:
            by_head = (by_camera @ rotation[:, None]).float()
            jacobian = torch.cat([jacobian, torch.einsum("tlij,ljc->tlic", by_head, basis)], -1)
        residuals = residuals.float()
        root = weights.sqrt().float()[..., None]
        rows, values = [jacobian * root[..., None]], [residuals * root]
        if move_expression:
            # Gaps: the difference of two landmarks' residuals, trusted as far as both of them.
            both = (root[:, one] * root[:, other]) ** 0.5
            both = both * (config.gap_weight**0.5)
            gap = (residuals[:, one] - residuals[:, other]) * both
            rows.append((jacobian[:, one] - jacobian[:, other]) * both[..., None])
            values.append(gap)
            losses[part] += 0.5 * gap.double().square().sum((1, 2))
        matrix = torch.cat(rows, 1).reshape(len(rotation), -1, used)
        value = torch.cat(values, 1).reshape(len(rotation), -1, 1)
        blocks[part, :used, :used] = (matrix.transpose(1, 2) @ matrix).numpy()
        right[part, :used] = -(matrix.transpose(1, 2) @ value)[..., 0].numpy()
    return blocks, right, losses


def _expression_prior(rig: LandmarkRig, config: TrackerConfig) -> tuple[np.ndarray, np.ndarray]:
    """Linear [C] and quadratic [C, C] cost of the controls: the prior on coefficients, which are
    linear in them."""
    controls, effort = rig.controls.numpy(), rig.effort.numpy()
    return (
        config.expression_l1 * (controls * np.sqrt(effort)).sum(1),
        config.expression_l2 * (controls * effort) @ controls.T,
    )


def _add_time_priors(
    blocks: np.ndarray, right: np.ndarray, motion: Motion, timeline: Timeline, config: TrackerConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Adds the priors in time to the system; returns the bands that couple frames, and their
    energy."""
    rotations = (
        matrices_to_rotvecs(motion.rotation[1:] @ motion.rotation[:-1].transpose(1, 2))
        / ROTATION_UNIT
    )
    translations = motion.translation.diff(dim=0) / TRANSLATION_UNIT
    weights = np.repeat([config.rotation_smoothness, config.translation_smoothness], 3)
    pose = acceleration_prior(torch.cat([rotations, translations], 1).numpy(), timeline, weights)
    controls = velocity_prior(
        motion.controls.diff(dim=0).numpy(), timeline, config.expression_smoothness
    )
    index = np.arange(blocks.shape[1])
    blocks[:, index, index] += np.concatenate([pose.diagonal, controls.diagonal], 1)
    right -= np.concatenate([pose.gradient, controls.gradient], 1)
    return (
        np.concatenate([pose.first, controls.first], 1),
        pose.second,
        pose.energy + controls.energy,
    )


def _upper_bounds(controls: np.ndarray, rig: LandmarkRig) -> np.ndarray:
    """Upper bounds [T, C]: 1, and what mouthClose leaves of it for the jaw."""
    upper = np.ones_like(controls)
    if rig.jaw is not None:
        upper[:, rig.jaw] -= controls[:, rig.close]
    return upper


def _moved(motion: Motion, change: Tensor, rig: LandmarkRig) -> Motion:
    """The motion after a step [T, P] in the solver's units, inside the bounds."""
    rotation_step = change[:, :3] * ROTATION_UNIT
    rotation_step = rotation_step * (
        _MAX_ROTATION / rotation_step.norm(dim=-1, keepdim=True).clamp_min(_MAX_ROTATION)
    )
    controls = (motion.controls + change[:, POSE:]).clamp(0.0, 1.0)
    if rig.jaw is not None:
        controls[:, rig.jaw] = torch.minimum(controls[:, rig.jaw], 1 - controls[:, rig.close])
    return dataclasses.replace(
        motion,
        rotation=rotvecs_to_matrices(rotation_step) @ motion.rotation,
        translation=motion.translation + change[:, 3:POSE] * TRANSLATION_UNIT,
        controls=controls,
    )
