"""Bundle adjustment on pixels: one cloud for all frames; poses of head and body, expressions and
secondary motion of each."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.photometric.problem import Problem
from likeness.preprocess.photometric.steadying import steadied_states
from likeness.preprocess.tracking.tracker import eye_distance_px, measure_residuals
from likeness.preprocess.work import usable
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_angles, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.tensor_files import Array, read_tensors, save_tensors
from likeness.scene.transforms import matrices_to_rotvecs, mean_transform, rotation_angles

if TYPE_CHECKING:
    from likeness.renderers import Renderer

_log = logging.getLogger(__name__)

_SAVE_EVERY_S = 20.0
_CHECK_EVERY = 25
# a correction beyond this (radians, metres) has lost its head
_FARTHEST = (math.radians(12.0), 0.04)


def refine(
    capture: Capture,
    config: PhotometricConfig = PhotometricConfig(),
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Capture:
    """The capture with refined states of all frames, test frames like the others.

    Frames that the refined state shows worse than the landmarks' keep the landmarks' state;
    ``report["photometric"]`` lists them beside what was gained (``error`` is from before poses are
    steadied). The frames' ``residual_px`` stays the landmark tracker's. With a ``checkpoint`` an
    interrupted call resumes. Raises UserError when the optimisation diverges.
    """
    from tqdm import tqdm

    from likeness.renderers import create

    begun = time.perf_counter()
    renderer = create("auto", device)
    renderer.warm_up()
    problem, step = _resumed(capture, config, device, checkpoint)
    saved = time.monotonic()
    with tqdm(
        total=problem.num_steps,
        initial=step,
        desc="photometric tracking",
        unit="step",
        disable=not progress,
    ) as bar:
        while step < problem.num_steps:
            last = problem.step(step, renderer)
            step += 1
            bar.update()
            due = time.monotonic() - saved > _SAVE_EVERY_S
            if due or step % _CHECK_EVERY == 0 or step == problem.num_steps:
                loss = float(last)
                if not (math.isfinite(loss) and problem.is_finite()):
                    if checkpoint is not None:
                        checkpoint.unlink(missing_ok=True)
                    raise UserError(
                        f"photometric tracking: no finite solution at step {step}; "
                        "use --tracking landmarks"
                    )
                turned = rotation_angles(problem.head_corrections()[:, :3, :3]).median()
                bar.set_postfix_str(
                    f"error {loss:.4f}, heads turned {math.degrees(float(turned)):.2f} deg"
                )
            if due and checkpoint is not None:
                save_tensors(checkpoint, problem.state_dict() | {"step": torch.tensor(step)})
                saved = time.monotonic()
    states, figures = _judged(capture, problem, renderer)
    figures["seconds"] = round(time.perf_counter() - begun, 3)
    _log.info(
        "photometric tracking: error %.4f -> %.4f, %d frames as the landmarks had them",
        figures["error"]["before"],
        figures["error"]["after"],
        len(figures["fallen_back"]),
    )
    report = {**capture.report, "photometric": figures}
    return dataclasses.replace(capture.with_states(states), report=report)


def _resumed(
    capture: Capture, config: PhotometricConfig, device: str, checkpoint: Path | None
) -> tuple[Problem, int]:
    """The problem as the checkpoint left it, and the steps done. One that cannot be used costs
    minutes, no more."""
    problem = Problem(capture, config, device)
    wanted = {name: Array.like(tensor) for name, tensor in problem.state_dict().items()}
    wanted["step"] = Array((), "int64", low=0, high=problem.num_steps)
    tensors = checkpoint and usable(
        checkpoint, lambda path: read_tensors(path, "checkpoint of tracking", wanted)
    )
    if not tensors:
        return problem, 0
    step = int(tensors.pop("step"))
    problem.load_state_dict(tensors)
    return problem, step


def _judged(capture: Capture, problem: Problem, renderer: Renderer) -> tuple[HeadState, dict]:
    """States of all frames, and the figures for the report."""
    before, refined, train = capture.states, problem.states().to("cpu"), list(capture.train)
    if problem.config.expression_rate > 0:
        refined = with_consistent_gaze(refined, capture)
    # The cloud has moved along with what is common to all corrections: the landmarks' states are
    # shown where it is.
    moved = _moved(before, _drift(before, refined, train))
    moved = dataclasses.replace(
        moved,
        secondary_motion=refined.secondary_motion[train]
        .mean(0)
        .expand_as(refined.secondary_motion),
    )
    errors = [problem.errors(states, renderer) for states in (moved, refined)]
    kept, anchored = errors[1] <= errors[0], refined
    for _ in range(2):  # what others drifted by must not move those that are kept
        those = [index for index in train if kept[index]]
        if those:
            anchored = _anchored(before, refined, those)
            kept = kept & _near(before, anchored)
    anchored = _steadied(anchored, kept, capture, problem.config)

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(kept.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    old = before.fields()
    states = HeadState(**{k: chosen(new, old[k]) for k, new in anchored.fields().items()})
    rotation, translation = _sizes(before.T_world_head, states.T_world_head)
    pitch = matrices_to_rotvecs((before.T_world_head.inverse() @ states.T_world_head)[:, :3, :3])[
        :, 0
    ]
    _, body = _sizes(before.T_world_body, states.T_world_body)
    sway_mm = 1000 * states.secondary_motion.abs()
    landmarks = [_landmark_percent(capture, states) for states in (before, states)]
    return states, {
        "error": {
            "before": float(errors[0].mean()),
            "after": float(torch.where(kept, errors[1], errors[0]).mean()),
        },
        "landmark_percent": {"before": landmarks[0], "after": landmarks[1]},
        "fallen_back": [
            capture.frames[i].image_path.stem for i in torch.nonzero(~kept)[:, 0].tolist()
        ],
        "rotation_deg": {
            "median": math.degrees(float(rotation.median())),
            "p95": math.degrees(float(rotation.quantile(0.95))),
        },
        "pitch_deg": math.degrees(float(pitch.median())),
        "translation_mm": {
            "median": 1000 * float(translation.median()),
            "p95": 1000 * float(translation.quantile(0.95)),
        },
        "body_mm": 1000 * float(body.quantile(0.95)),
        "sway_mm": {"rms": float(sway_mm.square().mean().sqrt()), "most": float(sway_mm.max())},
    }


def _steadied(
    states: HeadState, kept: Tensor, capture: Capture, config: PhotometricConfig
) -> HeadState:
    """States whose heads and bodies shake less in the frames that are ``kept`` [T]; the others pull
    at none."""
    rows = torch.nonzero(kept)[:, 0]
    times = [capture.frames[row].time_s for row in rows.tolist()]
    steadied = steadied_states(states[rows], times, config.steadiness)
    poses = {name: getattr(states, name).clone() for name in ("T_world_head", "T_world_body")}
    for name, table in poses.items():
        table[rows] = getattr(steadied, name)
    return dataclasses.replace(states, **poses)


def _sizes(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """By how much poses [T, 4, 4] were rotated (radians) and translated (metres), [T] each."""
    change = before.inverse() @ after
    return rotation_angles(change[:, :3, :3]), change[:, :3, 3].norm(dim=-1)


def _near(before: HeadState, after: HeadState) -> Tensor:
    """[T] whether head and body stayed within reach of where the landmarks had them."""
    near = torch.ones(len(before), dtype=torch.bool)
    for name in ("T_world_head", "T_world_body"):
        rotation, translation = _sizes(getattr(before, name), getattr(after, name))
        near &= (rotation < _FARTHEST[0]) & (translation < _FARTHEST[1])
    return near


def _drift(before: HeadState, after: HeadState, frames: list[int]) -> dict[str, Tensor]:
    """The mean change [4, 4] of head and body over some frames, each in its own frame."""
    return {
        name: mean_transform(getattr(before, name)[frames].inverse() @ getattr(after, name)[frames])
        for name in ("T_world_head", "T_world_body")
    }


def _moved(states: HeadState, by: dict[str, Tensor]) -> HeadState:
    return dataclasses.replace(
        states, **{name: getattr(states, name) @ change for name, change in by.items()}
    )


def _anchored(before: HeadState, after: HeadState, frames: list[int]) -> HeadState:
    """``after`` with the mean change of these frames' poses taken out: images do not show where a
    frame's origin lies (the cloud moves along), landmarks do. Secondary motion is from its mean,
    for the same reason."""
    after = _moved(
        after, {name: change.inverse() for name, change in _drift(before, after, frames).items()}
    )
    return dataclasses.replace(
        after, secondary_motion=after.secondary_motion - after.secondary_motion[frames].mean(0)
    )


def _landmark_percent(capture: Capture, states: HeadState) -> float:
    """Median over the frames of the landmarks' distance from the posed model's, in % of the outer
    eye corners'."""
    points = capture.frames.landmarks.double()
    model, K = HEAD_MODELS[capture.head_model](), capture.frames[0].camera.K.double()
    residual = measure_residuals(points, K, model, capture.identity, states)
    return 100 * float(residual.median()) / eye_distance_px(points)


def with_consistent_gaze(states: HeadState, capture: Capture) -> HeadState:
    """States whose eyes turn as their eyeLook coefficients say."""
    if capture.joint_names != ("eye_left", "eye_right"):
        return states
    return dataclasses.replace(
        states, joints=gaze_quats(gaze_angles(states.expression, capture.expression_names))
    )
