"""Measures a bundle on the frames of a capture, and shows them: the exported thing is the measured
thing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.evaluation import Evaluation, evaluate, headline
from likeness.fitting.images import error_map, to_uint8
from likeness.fitting.networks import describe, why_not
from likeness.fitting.result import FitResult
from likeness.fitting.run_directory import RunDirectory, versions
from likeness.playback.evaluators import EVALUATION
from likeness.playback.films import open_film
from likeness.playback.inside import write_inside
from likeness.playback.player import Player
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.frame_images import load_rgba
from likeness.scene.image_files import save_image

TRAIN_SAMPLES = 24


def check_matches(bundle: AvatarBundle, capture: Capture) -> None:
    """Raises UserError when a bundle cannot read the states of a capture."""
    if tuple(bundle.expression_names) != tuple(capture.expression_names):
        raise UserError(
            f"{capture.root}: its expressions (of head model {capture.head_model}) are not those "
            f"of the avatar (of {bundle.head_model}); give the capture that the avatar was fitted "
            "to, or one of the same head model"
        )


def evaluate_bundle(
    bundle: AvatarBundle,
    capture: Capture,
    indices: Sequence[int],
    *,
    device: str = "cpu",
    lpips=None,
    expressionless: bool = False,
    progress: str | None = None,
) -> Evaluation:
    """The metrics of a bundle on frames of a capture. ``expressionless`` plays the poses with a
    neutral face."""
    check_matches(bundle, capture)
    picture = picture_of(Player(bundle, device), capture, expressionless)
    if progress:
        from tqdm import tqdm

        with tqdm(total=len(indices), desc=progress, unit="frame") as bar:

            def counted(index: int) -> torch.Tensor:
                bar.update()
                return picture(index)

            return evaluate(counted, capture, indices, lpips)
    return evaluate(picture, capture, indices, lpips)


def evaluate_frames(
    bundle: AvatarBundle,
    capture: Capture,
    indices: Sequence[int],
    *,
    device: str = "cpu",
    lpips=None,
    expressionless: bool = False,
    progress: str | None = None,
) -> dict[str, Any]:
    """What metrics.json and likeness evaluate say of frames of a capture, as plain JSON; see
    ``evaluate_bundle``.

    headline: the figures that count (``likeness.fitting.evaluation.headline``).
    without_secondary_motion: the evaluation behind them, of the frames as a driver reaches them,
    without the secondary motion (sway) that was tracked on these very frames. Beside these, at the
    top level, the evaluation with that sway.
    """
    options = {"device": device, "lpips": lpips, "expressionless": expressionless}
    without_secondary_motion = evaluate_bundle(
        bundle, capture.without_secondary_motion(), indices, **options, progress=progress
    ).to_json()
    swaying = bool(capture.states.secondary_motion[list(indices)].any())
    with_secondary_motion = (
        evaluate_bundle(bundle, capture, indices, **options).to_json()
        if swaying
        else without_secondary_motion
    )
    return {
        "headline": headline(without_secondary_motion),
        "unswayed": without_secondary_motion,
        **with_secondary_motion,
    }


def picture_of(player: Player, capture: Capture, expressionless: bool = False):
    """A function from a frame's position to the avatar's picture [H, W, 3] on white."""
    white = torch.ones(3)

    def picture(index: int) -> torch.Tensor:
        frame = capture.frames[index]
        state = frame.state.expressionless() if expressionless else frame.state
        return player.step(state, frame.camera, white).rgb.clamp(0, 1).cpu()

    return picture


def network_notes(bundle: AvatarBundle, device: str) -> dict[str, str]:
    """What evaluates an avatar and its networks on this device, as notes of a run; nothing to say
    on a CPU."""
    if torch.device(device).type != "cuda":
        return {}
    choices = Player(bundle, device).choices
    networks = {name: choice for name, choice in choices.items() if name != EVALUATION}
    notes = {}
    if EVALUATION in choices:
        notes[EVALUATION] = describe({EVALUATION: choices[EVALUATION]})
    if networks:
        notes["networks"] = describe(networks)
    elif bundle.avatar.networks():
        notes["networks"] = f"all by torch ({why_not(device) or 'as asked for'})"
    return notes


def write_heldout(
    bundle: AvatarBundle, capture: Capture, root: Path, *, device: str = "cpu"
) -> None:
    """Writes ``heldout/NNNNNN_truth.png``, ``NNNNNN_avatar.png`` and ``heldout.mp4`` (truth,
    avatar, error)."""
    import cv2

    picture = picture_of(Player(bundle, device), capture)
    folder = root / "heldout"
    folder.mkdir(parents=True, exist_ok=True)

    with open_film(root / "heldout.mp4", capture.fps) as film:
        for index in capture.test:
            rgba = load_rgba(capture.frames[index]).astype(np.float32) / 255
            truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
            avatar = picture(index).numpy()
            for name, image in (("truth", truth), ("avatar", avatar)):
                path = folder / f"{capture.frames[index].image_path.stem}_{name}.png"
                save_image(
                    path, cv2.cvtColor((image * 255).round().astype(np.uint8), cv2.COLOR_RGB2BGR)
                )
            film.write(
                np.concatenate([to_uint8(truth), to_uint8(avatar), error_map(truth, avatar)], 1)
            )


def train_sample(capture: Capture) -> list[int]:
    """Some training frames, evenly spread, for the training PSNR."""
    return evenly(capture.train, TRAIN_SAMPLES)


def evenly(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, evenly spread."""
    positions = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return [indices[position] for position in positions]


def measure_run(
    run: RunDirectory,
    result: FitResult,
    capture: Capture,
    *,
    device: str = "cpu",
    lpips=None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes metrics.json and the held-out pictures of a finished fit; returns the metrics.

    The pictures are those that the headline is measured on: without the frames' own sway.
    extra: further entries of the metrics (the demo's truth, for one).
    """
    bundle = AvatarBundle.load(run.bundle)  # what is measured is what was written
    heldout = evaluate_frames(
        bundle,
        capture,
        capture.test,
        device=device,
        lpips=lpips,
        progress="measuring held-out frames",
    )
    train = evaluate_bundle(bundle, capture, train_sample(capture), device=device).to_json()
    without = evaluate_frames(
        result.baseline, capture, capture.test, device=device, lpips=lpips, expressionless=True
    )
    write_heldout(bundle, capture.without_secondary_motion(), run.root, device=device)
    shown = capture.test[:: max(1, (len(capture.test) - 1) // 2)][:3]
    frames = [capture.frames[index] for index in shown]
    write_inside(
        bundle,
        [frame.state for frame in frames],
        [frame.camera for frame in frames],
        run.root,
        device,
    )
    size = sum(path.stat().st_size for path in run.bundle.iterdir())
    metrics = {
        **heldout,
        "train": {"psnr": train["heldout"]["psnr"]},
        "baseline": {
            "unswayed": {key: without["unswayed"][key] for key in ("heldout", "regions")},
            **{key: without[key] for key in ("heldout", "regions")},
        },
        "num_gaussians": bundle.avatar.num_gaussians,
        "bundle_mb": round(size / 1e6, 3),
        "seconds": {"preprocess": capture.report.get("seconds", {}).get("total"), **result.seconds},
        "notes": {**result.notes, **network_notes(bundle, device)},
        "versions": versions(),
        **(extra or {}),
    }
    write_json(run.metrics, metrics)
    return metrics


def table(figures: dict[str, Any]) -> str:
    """The figures of ``evaluate_frames`` as lines of text: the headline, then PSNR with the frames'
    own sway."""

    def shown(value: float | None, unit: str = "") -> str:
        return "not measured" if value is None else f"{value:.4g}{unit}"

    measured = figures["unswayed"]
    lines = [f"frames   {measured['num_frames']}, without their own secondary motion (sway)"]
    lines += [
        f"{name:8s} {shown(v, ' dB' if name == 'psnr' else '')}"
        for name, v in measured["heldout"].items()
    ]
    lines += [
        f"PSNR of {name:7s} {shown(region['psnr'], ' dB')}"
        for name, region in measured["regions"].items()
    ]
    shares = measured["error_share"]
    lines.append(
        "error   "
        + ", ".join(
            f"{name} {shown(None if s is None else 100 * s, '%')}" for name, s in shares.items()
        )
    )
    return "\n".join(
        [*lines, f"PSNR with the sway that was tracked on these frames {_with_sway(figures)}"]
    )


def summary(metrics: dict[str, Any]) -> str:
    """The headline of a run's metrics in one line, and beside it the PSNR with the held-out frames'
    own sway."""
    figures = metrics["headline"]
    if figures["psnr"] is None:
        return "held-out frames: not measured"
    parts = ", ".join(
        f"{name} {figures[name]:.2f}"
        for name in ("face", "mouth", "eyes")
        if figures[name] is not None
    )
    return f"held-out frames: PSNR {figures['psnr']:.2f} dB ({parts}); with the sway tracked on them {_with_sway(metrics)}"


def _with_sway(figures: dict[str, Any]) -> str:
    psnr = figures["heldout"]["psnr"]
    return "not measured" if psnr is None else f"{psnr:.2f} dB"
