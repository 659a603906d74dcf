"""What only a made subject can tell: the tracker's errors, and how good views are that no frame shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fitting.bundle import AvatarBundle
from fitting.metrics import psnr
from playback.player import Player
from preprocess.demo_subject.errors import errors
from preprocess.demo_subject.truth import DemoTruth
from scene.capture import Capture

YAWS_DEGREES = (-20, 0, 20)
_FRAMES = 4


def compare_with_truth(
    bundle: AvatarBundle, capture: Capture, folder: Path, device: str = "cpu", pictures: Path | None = None
) -> dict[str, Any]:
    """Entries for metrics.json: ``demo.tracking`` (errors of the capture) and ``demo.novel_views`` (PSNR by yaw).

    folder: of the demo's video and truth. Novel views are held-out frames seen from a camera turned about the resting
    head; truth and avatar are compared on white. pictures: a folder for them, truth beside avatar.
    """
    truth = DemoTruth.load(folder)
    player, white = Player(bundle, device), torch.ones(3)
    chosen = [
        capture.test[i] for i in np.linspace(0, len(capture.test) - 1, min(_FRAMES, len(capture.test))).astype(int)
    ]
    views: dict[str, float] = {}
    for yaw in YAWS_DEGREES:
        camera = truth.orbit(math.radians(yaw))
        values = []
        for index in chosen:
            frame = capture.frames[index]
            rgb, alpha = truth.render_truth(round(frame.time_s * truth.config.fps), camera)
            expected = torch.from_numpy(rgb + 1 - alpha)
            found = player.step(frame.state, camera, white).rgb.clamp(0, 1).cpu()
            values.append(float(psnr(found, expected)))
            if pictures is not None and index == chosen[0]:
                _write(pictures / f"yaw_{yaw:+d}.png", torch.cat([expected, found], 1))
        views[f"{yaw:+d}"] = sum(values) / len(values)
    return {"demo": {"tracking": errors(truth, capture), "novel_views": {"psnr_by_yaw_degrees": views}}}


def _write(path: Path, picture: torch.Tensor) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (picture.clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
