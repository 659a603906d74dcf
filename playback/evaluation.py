"""Measures a bundle on the frames of a capture, and shows them: what is exported is what is
measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.binding import bound_distances
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
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.image_files import save_rgb

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
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    expressionless: bool = False,
    progress: str | None = None,
) -> Evaluation:
    """The metrics of a bundle on frames of a capture. expressionless: with a neutral face.
    progress: what a progress bar is called."""
    from tqdm import tqdm

    check_matches(bundle, capture)
    image = image_of(Player(bundle, device), capture, expressionless)
    with tqdm(desc=progress, total=len(indices), unit="frame", disable=progress is None) as bar:

        def counted(index: int) -> Tensor:
            bar.update()
            return image(index)

        return evaluate(counted, capture, indices, lpips)


def evaluate_frames(
    bundle: AvatarBundle,
    capture: Capture,
    indices: Sequence[int],
    *,
    progress: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What metrics.json and likeness evaluate say of frames of a capture, as plain JSON.

    options: of ``evaluate_bundle``.

    headline: the figures that count (``likeness.fitting.evaluation.headline``). unswayed: the
    evaluation behind them, of the frames as a driver reaches them, without the secondary motion
    that was tracked on these very frames. At the top level: the evaluation with it.
    """
    still = capture.without_secondary_motion()
    without = evaluate_bundle(bundle, still, indices, progress=progress, **options).to_json()
    tracked = without
    if bool(capture.states.secondary_motion[list(indices)].any()):
        tracked = evaluate_bundle(bundle, capture, indices, **options).to_json()
    return {"headline": headline(without), "unswayed": without, **tracked}


def image_of(
    player: Player, capture: Capture, expressionless: bool = False
) -> Callable[[int], Tensor]:
    """A function from a frame's position to the avatar's image [H, W, 3] on white."""
    white = torch.ones(3)

    def image(index: int) -> Tensor:
        frame = capture.frames[index]
        state = frame.state.expressionless() if expressionless else frame.state
        return player.step(state, frame.camera, white).rgb.clamp(0, 1).cpu()

    return image


def network_notes(bundle: AvatarBundle, device: str) -> dict[str, str]:
    """What evaluates an avatar and its networks on this device, as notes of a run; nothing to say
    on a CPU."""
    if torch.device(device).type != "cuda":
        return {}
    networks = dict(Player(bundle, device).choices)
    whole = networks.pop(EVALUATION, None)
    notes = {} if whole is None else {EVALUATION: describe({EVALUATION: whole})}
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
    image = image_of(Player(bundle, device), capture)
    folder = root / "heldout"
    with open_film(root / "heldout.mp4", capture.fps) as film:
        for index in capture.test:
            frame = capture.frames[index]
            truth, avatar = to_uint8(composite(load_rgba(frame))), to_uint8(image(index))
            save_rgb(folder / f"{frame.image_path.stem}_truth.png", truth)
            save_rgb(folder / f"{frame.image_path.stem}_avatar.png", avatar)
            film.write(np.concatenate([truth, avatar, error_map(truth, avatar)], 1))


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
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes metrics.json and the held-out images of a finished fit; returns the metrics.

    The images are those that the headline is measured on: without the frames' own secondary motion.
    extra: further entries of the metrics (the demo's truth, for one).
    """
    bundle = AvatarBundle.load(run.bundle)  # what is measured is what was written
    test, options = capture.test, {"device": device, "lpips": lpips}
    heldout = evaluate_frames(
        bundle, capture, test, progress="measuring held-out frames", **options
    )
    train = evaluate_bundle(bundle, capture, train_sample(capture), device=device).to_json()
    baseline = evaluate_frames(result.baseline, capture, test, expressionless=True, **options)
    write_heldout(bundle, capture.without_secondary_motion(), run.root, device=device)
    inside = [capture.frames[index] for index in test[:: max(1, (len(test) - 1) // 2)][:3]]
    states, cameras = [frame.state for frame in inside], [frame.camera for frame in inside]
    write_inside(bundle, states, cameras, run.root, device)
    figures = ("heldout", "regions")
    metrics = {
        **heldout,
        "train": {"psnr": train["heldout"]["psnr"]},
        "baseline": {
            "unswayed": {key: baseline["unswayed"][key] for key in figures},
            **{key: baseline[key] for key in figures},
        },
        "seconds": {"preprocess": capture.report.get("seconds", {}).get("total"), **result.seconds},
        "mm_from_bound_place": bound_distances(bundle.avatar, capture),
        **facts(run, bundle, result.notes, device),
        **(extra or {}),
    }
    write_json(run.metrics, metrics)
    return metrics


def facts(
    run: RunDirectory, bundle: AvatarBundle, notes: dict[str, str], device: str
) -> dict[str, Any]:
    """What every metrics.json says beside its measurements."""
    size = sum(path.stat().st_size for path in run.bundle.iterdir())
    return {
        "num_gaussians": bundle.avatar.num_gaussians,
        "bundle_mb": round(size / 1e6, 3),
        "notes": {**notes, **network_notes(bundle, device)},
        "versions": versions(),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures of ``evaluate_frames`` as lines of text: the headline, then PSNR with the frames'
    own secondary motion."""

    def text(value: float | None, unit: str = "") -> str:
        return "not measured" if value is None else f"{value:.4g}{unit}"

    measured = figures["unswayed"]
    lines = [f"frames   {measured['num_frames']}, without their own secondary motion"]
    for name, value in measured["heldout"].items():
        lines.append(f"{name:8s} {text(value, ' dB' if name == 'psnr' else '')}")
    for name, region in measured["regions"].items():
        lines.append(f"PSNR of {name:7s} {text(region['psnr'], ' dB')}")
    shares = {k: None if s is None else 100 * s for k, s in measured["error_share"].items()}
    lines.append("error   " + ", ".join(f"{name} {text(s, '%')}" for name, s in shares.items()))
    lines.append(
        f"PSNR with the secondary motion that was tracked on these frames {_with_motion(figures)}"
    )
    return "\n".join(lines)


def summary(metrics: dict[str, Any]) -> str:
    """The headline of a run's metrics in one line, and the PSNR with the held-out frames' own
    secondary motion."""
    figures = metrics["headline"]
    if figures["psnr"] is None:
        return "held-out frames: not measured"
    regions = {name: figures[name] for name in ("face", "mouth", "eyes")}
    parts = ", ".join(f"{k} {value:.2f}" for k, value in regions.items() if value is not None)
    return (
        f"held-out frames: PSNR {figures['psnr']:.2f} dB ({parts}); with the secondary motion "
        f"tracked on them {_with_motion(metrics)}"
    )


def _with_motion(figures: dict[str, Any]) -> str:
    psnr = figures["heldout"]["psnr"]
    return "not measured" if psnr is None else f"{psnr:.2f} dB"
