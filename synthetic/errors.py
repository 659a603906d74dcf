"""Compares a capture of the demo video with the truth: what the tracker and the matting really
did."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.transforms import (
    matrices_to_rotvecs,
    mean_transform,
    quats_to_rotvecs,
    rotation_angles,
)
from likeness.synthetic.truth import DemoTruth

# Curves that a person would name, as weighted sums of expressions.
CURVES = {
    "blink": {"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5},
    "smile": {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5},
    "jaw": {"jawOpen": 1.0},
    "brows": {
        "browInnerUp": 0.5,
        "browOuterUpLeft": 0.25,
        "browOuterUpRight": 0.25,
        "browDownLeft": -0.5,
        "browDownRight": -0.5,
    },
    "pucker": {"mouthPucker": 0.5, "mouthFunnel": 0.5},
}


def errors(truth: DemoTruth, capture: Capture) -> dict:
    """Errors of a capture of ``truth.video``, frames matched by their times. Plain JSON values.

    rotation_deg: median and 95th percentile of the angle between tracked and true head, and the
        same once the best constant rotation between the two head frames is taken out
        (``offset_deg``: that rotation's angle). ``jitter``: root mean square of the error's second
        difference in time over sqrt(6), which is the size of an error that is independent from
        frame to frame (null without three frames in a row).
    translation_mm: of the head's origin, likewise; ``relative`` also with the best scale taken out
        (an assumed focal
        length scales depths: ``scale``), in parts of the distance.
    yaw_pitch_roll_deg: standard deviation of the rotation's error about the head's axes (pitch x,
        yaw y, roll z).
    expressions: correlation of each curve of CURVES with the truth (null where the truth does not
        move); gaze: of the eyes' horizontal and vertical angles.
    alpha_mae: mean absolute difference of mattes in [0, 1] over every eighth frame, or null without
        a crop on record.

    Raises UserError when the capture is not of this video.
    """
    picks = np.array([round(frame.time_s * truth.config.fps) for frame in capture.frames])
    made_with = truth.config.head_model
    if capture.head_model != made_with:
        raise UserError(
            f"{capture.root}: tracked with {capture.head_model}, the demo is made with {made_with}"
        )
    if len(picks) == 0 or picks.max() >= len(truth.states):
        raise UserError(
            f"{capture.root}: not a capture of {truth.video} (other times); give its own"
        )
    states, true = capture.states, truth.states[torch.from_numpy(picks)]
    report: dict[str, Any] = {"frames": len(picks)} | _pose_errors(
        states.T_world_head.double(), true.T_world_head.double()
    )
    report["rotation_deg"]["jitter"] = _jitter(
        states.T_world_head.double(), true.T_world_head.double(), picks
    )
    report["expressions"] = _curve_correlations(states.expression, true.expression, capture, truth)
    gaze, true_gaze = (
        quats_to_rotvecs(joints.double()).mean(1) for joints in (states.joints, true.joints)
    )
    report["gaze"] = {
        "horizontal": _correlation(gaze[:, 1], true_gaze[:, 1]),
        "vertical": _correlation(gaze[:, 0], true_gaze[:, 0]),
    }
    report["alpha_mae"] = _alpha_error(truth, capture, picks)
    return report


def _pose_errors(tracked: Tensor, true: Tensor) -> dict:
    # the tracked head in the true one
    between = true[:, :3, :3].transpose(1, 2) @ tracked[:, :3, :3]
    padded = torch.eye(4, dtype=between.dtype).repeat(len(between), 1, 1)
    padded[:, :3, :3] = between
    offset = mean_transform(padded)[:3, :3]
    rest = between @ offset.T
    axes = torch.rad2deg(matrices_to_rotvecs(rest)).std(0, unbiased=False).tolist()
    moved = (tracked[:, :3, 3] - true[:, :3, 3]) * 1000
    # tracked = scale * (true + R offset): linear in the scale and in scale * offset.
    design = torch.cat([true[:, :3, 3].reshape(-1, 1), true[:, :3, :3].reshape(-1, 3)], 1)
    target = tracked[:, :3, 3].reshape(-1, 1)
    solution = torch.linalg.lstsq(design, target, driver="gelsd").solution
    scale = float(solution[0])
    remaining = ((design @ solution - target).reshape(-1, 3) / scale).norm(dim=1)
    distance = float(true[:, :3, 3].norm(dim=1).mean())
    return {
        "rotation_deg": {
            **_summary(torch.rad2deg(rotation_angles(between))),
            "offset_deg": float(torch.rad2deg(rotation_angles(offset))),
            "without_offset": _summary(torch.rad2deg(rotation_angles(rest))),
        },
        "yaw_pitch_roll_deg": {"yaw": axes[1], "pitch": axes[0], "roll": axes[2]},
        "translation_mm": {
            **_summary(moved.norm(dim=1)),
            "without_offset_and_scale": _summary(1000 * remaining),
            "scale": scale,
            "relative": float(remaining.median()) / distance,
        },
    }


def _jitter(tracked: Tensor, true: Tensor, picks: np.ndarray) -> float | None:
    """In degrees; of poses [T, 4, 4] at the frames ``picks`` [T]."""
    error = torch.rad2deg(matrices_to_rotvecs(true[:, :3, :3].mT @ tracked[:, :3, :3]))
    in_a_row = torch.from_numpy((np.diff(picks)[1:] == 1) & (np.diff(picks)[:-1] == 1))
    bends = (error[2:] - 2 * error[1:-1] + error[:-2])[in_a_row]
    return float((bends.square().sum(-1).mean() / 6).sqrt()) if len(bends) else None


def _curve_correlations(tracked: Tensor, true: Tensor, capture: Capture, truth: DemoTruth) -> dict:
    names = list(capture.expression_names)
    true_names = list(truth.model.expression_names)
    result = {}
    for curve, weights in CURVES.items():
        if all(name in names and name in true_names for name in weights):
            shares = torch.tensor(list(weights.values()), dtype=torch.float64)
            ours, theirs = (
                values[:, [known.index(name) for name in weights]].double() @ shares
                for values, known in ((tracked, names), (true, true_names))
            )
            result[curve] = _correlation(ours, theirs)
    return result


def _alpha_error(truth: DemoTruth, capture: Capture, picks: np.ndarray) -> float | None:
    from likeness.preprocess.crop import Crop
    from likeness.preprocess.frames import read_image

    record = capture.report.get("crop")
    if not record:
        return None
    crop, size = Crop(record["left"], record["top"], record["side"]), record["size"]
    total = []
    for index in range(0, len(picks), 8):
        matte = read_image(capture.frames[index].matte_path, "matte")
        wanted = crop.apply(truth.matte(int(picks[index]))[..., None], size).reshape(size, size)
        if matte.shape != wanted.shape:
            raise UserError(
                f"{capture.frames[index].matte_path}: expected {size}x{size} pixels, got "
                f"{matte.shape}"
            )
        total.append(np.abs(matte.astype(np.float32) - wanted).mean() / 255)
    return float(np.mean(total))


def _summary(values: Tensor) -> dict[str, float]:
    return {"median": float(values.median()), "p95": float(values.quantile(0.95))}


def _correlation(a: Tensor, b: Tensor) -> float | None:
    """Pearson's correlation; None where the truth ``b`` stands still, 0 where only ``a`` does."""
    a, b = a - a.mean(), b - b.mean()
    if float(b.abs().max()) < 1e-6:
        return None
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))
