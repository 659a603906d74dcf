"""Measures and shows the avatar of one or a few pictures: each beside its rendering, a turntable,
five expressions."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import error_map, to_uint8
from likeness.fitting.run_directory import RunDirectory, versions
from likeness.playback.evaluation import evaluate_bundle, network_notes, picture_of
from likeness.playback.player import Player
from likeness.playback.views.sheets import sheet
from likeness.playback.views.trajectories import HEAD_CENTRE, Angle, in_world, turned
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.files import write_bytes, write_json
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.head_state import HeadState

FOLDER = "pictures"
YAWS = (-30.0, -15.0, 0.0, 15.0, 30.0)
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {
        "mouthSmileLeft": 0.8,
        "mouthSmileRight": 0.8,
        "cheekSquintLeft": 0.5,
        "cheekSquintRight": 0.5,
    },
    "open mouth": {"jawOpen": 0.6},
    "closed eyes": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "pursed lips": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
    "raised brows": {
        "browInnerUp": 0.9,
        "browOuterUpLeft": 0.8,
        "browOuterUpRight": 0.8,
        "eyeWideLeft": 0.6,
        "eyeWideRight": 0.6,
    },
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
    lpips=None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the pictures of a run into ``pictures/`` and its metrics.json; returns the metrics.

    ``source`` is measured on the pictures that the avatar was made from; nothing is held out, and
    ``heldout`` is empty.
    """
    begun = time.perf_counter()
    found = evaluate_bundle(bundle, capture, capture.train, device=device, lpips=lpips).to_json()
    source = {
        key: found[key] for key in ("regions", "error_share", "lpips_net", "per_frame")
    } | found["heldout"]
    show(bundle, capture, run.root / FOLDER, device=device)
    seconds = {**seconds, "measuring": round(time.perf_counter() - begun, 3)}
    metrics = {
        "num_frames": 0,
        "heldout": dict.fromkeys(found["heldout"]),
        "source": source,
        "train": {"psnr": found["heldout"]["psnr"]},
        "num_gaussians": bundle.avatar.num_gaussians,
        "bundle_mb": round(sum(path.stat().st_size for path in run.bundle.iterdir()) / 1e6, 3),
        "seconds": seconds,
        "notes": {**notes, **network_notes(bundle, device)},
        "versions": versions(),
        **(extra or {}),
    }
    write_json(run.metrics, metrics)
    return metrics


def show(bundle: AvatarBundle, capture: Capture, folder: Path, *, device: str = "cpu") -> None:
    """Writes ``source_N.png`` (picture, avatar, error), ``turntable.png`` and
    ``expressions.png``."""
    player, white = Player(bundle, device), torch.ones(3)
    picture = picture_of(player, capture)
    for number, index in enumerate(capture.train[:_MAX_SOURCES]):
        truth, avatar = composite(load_rgba(capture.frames[index])).numpy(), picture(index).numpy()
        _write(folder / f"source_{number}.png", sheet([[truth, avatar, error_map(truth, avatar)]]))
    front = front_camera(bundle)
    T_world_head = bundle.default_state.T_world_head

    def view(camera: Camera, expression: dict[str, float]) -> np.ndarray:
        state = with_values(bundle, expression)
        return to_uint8(
            player.step(state, in_world(camera, T_world_head), white).rgb.clamp(0, 1).cpu().numpy()
        )

    turns = [view(turned(front, Angle(yaw)), {}) for yaw in YAWS]
    _write(folder / "turntable.png", sheet([turns], [[f"yaw {yaw:+g}" for yaw in YAWS]]))
    faces = [view(front, values) for values in EXPRESSIONS.values()]
    _write(folder / "expressions.png", sheet([faces], [list(EXPRESSIONS)]))


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
    pictures = [picture_of(Player(bundle, device), capture) for bundle in (before, after)]
    for number, index in enumerate(capture.train[:_MAX_SOURCES]):
        old, new = (picture(index).numpy() for picture in pictures)
        edited = composite(load_rgba(capture.frames[index])).numpy()
        _write(
            folder / f"edit_{number}.png",
            sheet([[old, edited, new]], [["before", "edited picture", "after"]]),
        )


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
    centre = camera.K.new_tensor(HEAD_CENTRE)
    K = camera.K.clone()
    K[0, 2], K[1, 2] = camera.width / 2, camera.height / 2
    eye = centre + camera.K.new_tensor([0.0, 0.0, float((camera.center - centre).norm())])
    return Camera.looking_at(
        K, eye, centre, camera.K.new_tensor([0.0, 1.0, 0.0]), camera.width, camera.height
    )


def _write(path: Path, picture: np.ndarray) -> None:
    import cv2

    data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data.tobytes())
