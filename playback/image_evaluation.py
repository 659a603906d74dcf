"""Measures and shows the avatar of one or a few pictures: each beside its rendering, a turntable,
five expressions."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import error_map, to_uint8
from likeness.fitting.run_directory import RunDirectory
from likeness.playback.evaluation import evaluate_bundle, facts, image_of
from likeness.playback.player import Player
from likeness.playback.views.sheets import sheet
from likeness.playback.views.trajectories import HEAD_CENTRE, Angle, in_world, turned
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.files import write_json
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import save_rgb

FOLDER = "pictures"
YAWS = (-30.0, -15.0, 0.0, 15.0, 30.0)
_SMILE = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}
_BROWS = {"browInnerUp": 0.9, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8}
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": _SMILE | {"cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "open mouth": {"jawOpen": 0.6},
    "closed eyes": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "pursed lips": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
    "raised brows": _BROWS | {"eyeWideLeft": 0.6, "eyeWideRight": 0.6},
}
_MAX_SOURCES = 4


def measure_pictures(
    run: RunDirectory,
    bundle: AvatarBundle,
    capture: Capture,
    seconds: dict[str, float],
    notes: dict[str, str],
    *,
    device: str = "cpu",
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the images of a run into ``pictures/`` and its metrics.json; returns the metrics.

    ``source`` is measured on the pictures that the avatar was made from; nothing is held out, and
    ``heldout`` is empty.
    """
    start = time.perf_counter()
    source = evaluate_bundle(bundle, capture, capture.train, device=device, lpips=lpips).to_json()
    whole = source["heldout"]
    keys = ("regions", "error_share", "lpips_net", "per_frame")
    show(bundle, capture, run.root / FOLDER, device=device)
    metrics = {
        "num_frames": 0,
        "heldout": dict.fromkeys(whole),
        "source": {key: source[key] for key in keys} | whole,
        "train": {"psnr": whole["psnr"]},
        "seconds": {**seconds, "measuring": round(time.perf_counter() - start, 3)},
        **facts(run, bundle, notes, device),
        **(extra or {}),
    }
    write_json(run.metrics, metrics)
    return metrics


def show(bundle: AvatarBundle, capture: Capture, folder: Path, *, device: str = "cpu") -> None:
    """Writes ``source_N.png`` (picture, avatar, error), ``turntable.png`` and
    ``expressions.png``."""
    player, white = Player(bundle, device), torch.ones(3)
    image = image_of(player, capture)
    for number, index in enumerate(capture.train[:_MAX_SOURCES]):
        truth, avatar = composite(load_rgba(capture.frames[index])), image(index)
        row = [to_uint8(truth), to_uint8(avatar), error_map(truth, avatar)]
        save_rgb(folder / f"source_{number}.png", sheet([row]))
    front = front_camera(bundle)

    def view(camera: Camera, expression: dict[str, float]) -> np.ndarray:
        camera = in_world(camera, bundle.default_state.T_world_head)
        return to_uint8(player.step(with_values(bundle, expression), camera, white).rgb)

    views = [view(turned(front, Angle(yaw)), {}) for yaw in YAWS]
    save_rgb(folder / "turntable.png", sheet([views], [[f"yaw {yaw:+g}" for yaw in YAWS]]))
    faces = [view(front, values) for values in EXPRESSIONS.values()]
    save_rgb(folder / "expressions.png", sheet([faces], [list(EXPRESSIONS)]))


def show_edit(
    before: AvatarBundle,
    after: AvatarBundle,
    capture: Capture,
    folder: Path,
    *,
    device: str = "cpu",
) -> None:
    """Writes ``edit_N.png``: the avatar before, the edited picture, the avatar after, at the
    picture's state."""
    images = [image_of(Player(bundle, device), capture) for bundle in (before, after)]
    for number, index in enumerate(capture.train[:_MAX_SOURCES]):
        old, new = (image(index) for image in images)
        edited = composite(load_rgba(capture.frames[index]))
        labels = ["before", "edited image", "after"]
        save_rgb(folder / f"edit_{number}.png", sheet([[old, edited, new]], [labels]))


def with_values(bundle: AvatarBundle, values: dict[str, float]) -> HeadState:
    """The default state with coefficients by name; names that the head model has not are left
    out."""
    state = bundle.default_state
    expression = state.expression.clone()
    for name, value in values.items():
        if name in bundle.expression_names:
            expression[bundle.expression_names.index(name)] = value
    return dataclasses.replace(state, expression=expression)


def front_camera(bundle: AvatarBundle) -> Camera:
    """A camera whose world is the head frame: from the front, with lens and distance of the
    picture's camera."""
    camera = bundle.default_camera.in_frame(bundle.default_state.T_world_head)
    centre, up = camera.K.new_tensor(HEAD_CENTRE), camera.K.new_tensor([0.0, 1.0, 0.0])
    K = camera.K.clone()
    K[0, 2], K[1, 2] = camera.width / 2, camera.height / 2
    eye = centre + camera.K.new_tensor([0.0, 0.0, float((camera.center - centre).norm())])
    return Camera.looking_at(K, eye, centre, up, camera.width, camera.height)
