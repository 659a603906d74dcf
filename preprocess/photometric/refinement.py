"""Bundle adjustment on pixels: one cloud for all frames, a pose of head and body and expressions for each."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from preprocess.head_models import HEAD_MODELS
from preprocess.photometric.config import PhotometricConfig
from preprocess.photometric.problem import Problem
from preprocess.tracking.gaze import gaze_angles, gaze_quats
from preprocess.tracking.landmark_groups import EYE_CORNERS
from preprocess.tracking.tracker import measure_residuals
from scene.capture import Capture
from scene.head_state import HeadState
from scene.tensor_files import load_tensors, save_tensors
from scene.transforms import matrices_to_rotvecs, mean_transform, rotation_angles

if TYPE_CHECKING:
    from renderers import Renderer

_log = logging.getLogger(__name__)

_SAVE_EVERY_S = 20.0
_FARTHEST = (math.radians(20.0), 0.1)  # a correction beyond this (radians, metres) has lost its head


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
    ``report["photometric"]`` lists them beside what was gained. With a ``checkpoint`` an interrupted call goes on.
    Raises FloatingPointError when the cloud or a state is not finite.
    """
    from tqdm import tqdm

    from renderers import create

    begun = time.perf_counter()
    renderer = create("auto", device)
    renderer.warm_up()
    problem = Problem(capture, config, device)
    step = _load(checkpoint, problem) if checkpoint is not None else 0
    saved = time.monotonic()
    with tqdm(total=problem.num_steps, initial=step, desc="picture tracking", unit="step", disable=not progress) as bar:
        while step < problem.num_steps:
            loss = problem.step(step, renderer)
            step += 1
            bar.update()
            if step % 25 == 0:
                if not math.isfinite(loss):
                    raise FloatingPointError(f"picture tracking: the loss of step {step} is {loss}")
                turned = rotation_angles(problem.head_corrections()[:, :3, :3]).median()
                bar.set_postfix_str(f"error {loss:.4f}, heads turned {math.degrees(float(turned)):.2f} deg")
            if checkpoint is not None and time.monotonic() - saved > _SAVE_EVERY_S:
                _save(checkpoint, problem, step)
                saved = time.monotonic()
    states, kept, found = _judged(capture, problem, renderer)
    found["seconds"] = round(time.perf_counter() - begun, 3)
    _log.info(
        "tracked by the picture: error %.4f -> %.4f, %d frames as the landmarks had them",
        found["error"]["before"], found["error"]["after"], int((~kept).sum()),
    )  # fmt: skip
    frames = tuple(dataclasses.replace(frame, state=states[i]) for i, frame in enumerate(capture.frames))
    return dataclasses.replace(capture, frames=frames, report={**capture.report, "photometric": found})


def _judged(capture: Capture, problem: Problem, renderer: Renderer) -> tuple[HeadState, Tensor, dict]:
    """States of all frames, which of them are the refined ones [T], and the figures for the report."""
    before, refined = capture.states, with_consistent_gaze(problem.states().to("cpu"), capture)
    errors = [problem.errors(states, renderer) for states in (before, refined)]
    change = torch.linalg.inv(before.T_world_head) @ refined.T_world_head
    turn, shift = rotation_angles(change[:, :3, :3]), change[:, :3, 3].norm(dim=-1)
    kept = (errors[1] <= errors[0]) & (turn < _FARTHEST[0]) & (shift < _FARTHEST[1])

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(kept.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    fields = [field.name for field in dataclasses.fields(HeadState)]
    refined = _anchored(before, refined, capture.train)
    states = HeadState(**{name: chosen(getattr(refined, name), getattr(before, name)) for name in fields})
    landmarks = [_landmark_percent(capture, states) for states in (before, states)]
    sway = torch.linalg.inv(before.T_world_body) @ states.T_world_body
    return states, kept, {
        "error": {"before": float(errors[0].mean()), "after": float(torch.where(kept, errors[1], errors[0]).mean())},
        "landmark_percent": {"before": landmarks[0], "after": landmarks[1]},
        "fallen_back": [capture.frames[i].image_path.stem for i in torch.nonzero(~kept)[:, 0].tolist()],
        "rotation_deg": {"median": math.degrees(float(turn.median())), "p95": math.degrees(float(turn.quantile(0.95)))},
        "pitch_deg": math.degrees(float(matrices_to_rotvecs(change[:, :3, :3])[:, 0].median())),
        "translation_mm": {"median": 1000 * float(shift.median()), "p95": 1000 * float(shift.quantile(0.95))},
        "body_sway_mm": 1000 * float(sway[:, :3, 3].norm(dim=-1).quantile(0.95)),
    }  # fmt: skip


def _anchored(before: HeadState, after: HeadState, train: tuple[int, ...]) -> HeadState:
    """``after`` with the mean change of the training frames' poses taken out: pictures do not show where a frame's
    origin lies (the cloud moves along), landmarks do."""
    frames, poses = list(train), {}
    for name in ("T_world_head", "T_world_body"):
        old, new = getattr(before, name), getattr(after, name)
        drift = mean_transform(torch.linalg.inv(old[frames]) @ new[frames])
        poses[name] = new @ torch.linalg.inv(drift)
    return dataclasses.replace(after, **poses)


def _landmark_percent(capture: Capture, states: HeadState) -> float:
    """Median over the frames of the landmarks' distance from the posed model's, in % of the outer eye corners'."""
    points = torch.stack([frame.landmarks for frame in capture.frames]).double()
    model, K = HEAD_MODELS[capture.head_model](), capture.frames[0].camera.K.double()
    residual = measure_residuals(points, K, model, capture.identity, states)
    right, left = EYE_CORNERS
    return 100 * float(residual.median()) / float((points[:, right] - points[:, left]).norm(dim=-1).median())


def with_consistent_gaze(states: HeadState, capture: Capture) -> HeadState:
    """States whose eyes turn as their eyeLook coefficients say."""
    if capture.joint_names != ("eye_left", "eye_right"):
        return states
    return dataclasses.replace(states, joints=gaze_quats(gaze_angles(states.expression, capture.expression_names)))


def _save(path: Path, problem: Problem, step: int) -> None:
    save_tensors(path, problem.state_dict() | {"step": torch.tensor(step)})


def _load(path: Path, problem: Problem) -> int:
    if not path.is_file():
        return 0
    tensors = load_tensors(path)
    step = int(tensors.pop("step"))
    problem.load_state_dict(tensors)
    return step
