"""What only a synthetic subject can tell: the tracker's errors, and the quality of views that no
frame shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import to_uint8
from likeness.fitting.metrics import psnr
from likeness.playback.player import Player
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import save_rgb
from likeness.synthetic.errors import errors
from likeness.synthetic.truth import DemoTruth

YAWS_DEGREES = (-30, -20, 0, 20, 30)
_FRAMES = 4


def compare_with_truth(
    bundle: AvatarBundle,
    capture: Capture,
    folder: Path,
    device: str = "cpu",
    pictures: Path | None = None,
) -> dict[str, Any]:
    """Entries for metrics.json: ``demo.tracking`` (errors of the capture) and ``demo.novel_views``
    (PSNR by yaw).

    folder: of the demo's video and truth. Novel views are held-out frames seen from a camera turned
    about the resting head; truth and avatar are compared on white: ``psnr_by_yaw_degrees`` of the
    plain avatar, and ``..._held`` as likeness render shows it, clamped to what frames showed.
    pictures: a folder for images of the former, truth beside avatar.
    """
    truth = DemoTruth.load(folder)
    player, white = Player(bundle, device), torch.ones(3)
    ways = {
        "psnr_by_yaw_degrees": lambda state, camera: player.step(state, camera, white).rgb,
        "psnr_by_yaw_degrees_held": lambda state, camera: (
            player.step(state, camera, white, clamp_views=True).rgb
        ),
    }
    views = psnr_by_yaw(truth, capture, ways, pictures)
    return {"demo": {"tracking": errors(truth, capture), "novel_views": views}}


def psnr_by_yaw(
    truth: DemoTruth,
    capture: Capture,
    ways: dict[str, Callable[[HeadState, Camera], torch.Tensor]],
    pictures: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Mean PSNR on white by way and yaw over some held-out frames.

    ways: functions from a tracked state and a camera of the world to an image [H, W, 3] on white.
    pictures: a folder for the first frame by the first way, truth beside it.
    """
    places = np.linspace(0, len(capture.test) - 1, min(_FRAMES, len(capture.test))).astype(int)
    chosen = [capture.test[i] for i in places]
    views: dict[str, dict[str, float]] = {name: {} for name in ways}
    for yaw in YAWS_DEGREES:
        camera = truth.orbit(math.radians(yaw))
        values: dict[str, list[float]] = {name: [] for name in ways}
        for index in chosen:
            frame = capture.frames[index]
            rgb, alpha = truth.render_truth(round(frame.time_s * truth.config.fps), camera)
            expected = torch.from_numpy(rgb + 1 - alpha)
            for number, (name, way) in enumerate(ways.items()):
                image = way(frame.state, camera).clamp(0, 1).cpu()
                values[name].append(psnr(image, expected))
                if pictures is not None and index == chosen[0] and number == 0:
                    pair = to_uint8(torch.cat([expected, image], 1))
                    save_rgb(pictures / f"yaw_{yaw:+d}.png", pair)
        for name in ways:
            views[name][f"{yaw:+d}"] = sum(values[name]) / len(values[name])
    return views
