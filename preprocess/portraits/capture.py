"""Still images of one person in, capture out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.head_models.landmarks import CHIN, FOREHEAD
from likeness.preprocess.crop import Framing, focal_pixels
from likeness.preprocess.frames import FrameFiles
from likeness.preprocess.matting import MattingChoice
from likeness.preprocess.portraits.faces import Face, Portrait, find_face, open_detector
from likeness.preprocess.portraits.mattes import write_images
from likeness.preprocess.portraits.reading import Still, read_still
from likeness.preprocess.portraits.warnings import find_warnings
from likeness.preprocess.quality import head_angles, tracking_quality
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel
    from likeness.preprocess.tracking.tracker import Tracking
    from likeness.scene.capture import Capture, Identity

_log = logging.getLogger(__name__)

MAX_IMAGES = 32
MAX_YAW_DEGREES = 60.0  # beyond, half of the face is guessed, and the detector's points with it
_MAX_RESIDUAL = 5.0  # per cent of the eye distance
_USUAL_DISTANCE_M = 1.2  # at which portraits are taken that say nothing of their lens
_FACE_HEIGHT_M = 0.165  # forehead to chin of the detector's points on the mean head


@dataclasses.dataclass(frozen=True)
class PortraitOptions:
    """How still images become a capture."""

    size: int = 512
    """Side of the capture's square images in pixels."""
    focal: float | None = None
    """Focal length in units of the images' long sides; None: by the file, else assumed."""
    matting: str = "auto"
    """A name in MATTING, or auto."""
    head_model: str = "anny"
    """A name in HEAD_MODELS."""

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise UserError(f"size: expected 64 to 4096 pixels, got {self.size}")
        if self.focal is not None and not 0.2 <= self.focal <= 50:
            raise UserError(
                f"focal: expected 0.2 to 50 times the image's long side, got {self.focal}"
            )


def build_capture(
    paths: Sequence[Path],
    root: Path,
    options: PortraitOptions = PortraitOptions(),
    *,
    identity: Identity | None = None,
    device: str = "cpu",
    weights: Path | None = None,
    download: bool = True,
) -> Capture:
    """Makes the capture of one person's images in ``root``: all of them for training, none held
    out.

    identity: of a person who is known already (in the terms of ``options.head_model``). device,
    weights, download: of the matting. ``report["seconds"]`` holds the seconds by part. Raises
    UserError for images that cannot be used.
    """
    from likeness.head_models import HEAD_MODELS

    if not 1 <= len(paths) <= MAX_IMAGES:
        raise UserError(f"images: expected 1 to {MAX_IMAGES} of one person, got {len(paths)}")
    clock = _Clock()
    stills = [read_still(path) for path in paths]
    clock.lap("reading")
    with open_detector() as detector:
        portraits = [_framed(still, find_face(still, detector), options) for still in stills]
    clock.lap("face")
    model = HEAD_MODELS[options.head_model]()
    tracking = _track(portraits, model, identity)
    clock.lap("head")
    choice = MattingChoice(options.matting, device, weights, download)
    matting = write_images(Path(root), portraits, choice)
    clock.lap("matte")
    report = _report(portraits, tracking, model) | {"matting": matting, "seconds": clock.seconds()}
    warnings = find_warnings(report["pictures"], [portrait.face.points for portrait in portraits])
    for name, warning in warnings:
        _log.warning("%s: %s; better: %s", name, warning["what"], warning["remedy"])
    report["warnings"] = [warning for _, warning in warnings]
    source_hash = _hash(paths, options, identity)
    capture = _assemble(Path(root), portraits, tracking, model, source_hash, report)
    capture.save()
    return capture


class _Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name], self._last = round(now - self._last, 3), now

    def seconds(self) -> dict[str, float]:
        return {**self._laps, "total": round(sum(self._laps.values()), 3)}


def _framed(still: Still, face: Face, options: PortraitOptions) -> Portrait:
    if options.focal is not None or still.focal_35mm is not None:
        focal, source = focal_pixels(still, options.focal)
        source = source.replace("video's", "image's")
    else:
        height = float(np.linalg.norm(face.points[FOREHEAD] - face.points[CHIN]))
        focal = max(
            height * _USUAL_DISTANCE_M / _FACE_HEIGHT_M, 0.8 * max(still.width, still.height)
        )
        source = f"assumed: a portrait from {_USUAL_DISTANCE_M:g} m or more"
    framing = Framing.of(face.points[None], still, options.size, focal, source)
    return Portrait(still, face, framing, framing.points(face.points).astype(np.float32))


def _track(portraits: Sequence[Portrait], model: HeadModel, identity: Identity | None) -> Tracking:
    """The heads. Raises UserError for what cannot be followed."""
    import torch

    from likeness.preprocess.portraits.tracking import track_images
    from likeness.scene.camera import Camera

    points = torch.from_numpy(np.stack([portrait.landmarks for portrait in portraits]))
    cameras = Camera.stack([portrait.framing.camera for portrait in portraits])
    tracking = track_images(points, cameras, model, identity)
    yaws = head_angles(tracking.states.T_world_head.numpy())["yaw"]
    for portrait, yaw, percent in zip(portraits, yaws, tracking.residual_percent.tolist()):
        path = portrait.still.path
        if abs(yaw) > MAX_YAW_DEGREES:
            raise UserError(
                f"{path}: the head is turned by {abs(yaw):.0f}°; expected at most "
                f"{MAX_YAW_DEGREES:.0f}°: give an image from the front or half from the side"
            )
        if percent > _MAX_RESIDUAL:
            raise UserError(
                f"{path}: the head model does not follow this face (error {percent:.0f} % of the "
                f"eye distance, expected at most {_MAX_RESIDUAL:.0f} %): give one with nothing "
                "before the face, and no grimace"
            )
    return tracking


def _assemble(
    root: Path,
    portraits: Sequence[Portrait],
    tracking: Tracking,
    model: HeadModel,
    source_hash: str,
    report: dict[str, Any],
) -> Capture:
    import torch

    from likeness.scene.camera import Camera
    from likeness.scene.capture import Capture, TrackedFrames

    files, count = FrameFiles(root), len(portraits)
    landmarks = torch.stack([torch.from_numpy(portrait.landmarks) for portrait in portraits])
    frames = TrackedFrames(
        image_paths=tuple(files.image(index) for index in range(count)),
        matte_paths=tuple(files.matte(index) for index in range(count)),
        times_s=torch.arange(count, dtype=torch.float64),
        cameras=Camera.stack([portrait.framing.camera for portrait in portraits]),
        states=tracking.states,
        landmarks=landmarks,
        confidence=torch.ones(landmarks.shape[:2]),
        residuals_px=torch.as_tensor(tracking.residual_px).double(),
    )
    return Capture(
        root=root,
        head_model=model.name,
        expression_names=tuple(model.expression_names),
        joint_names=tuple(model.joint_names),
        identity=tracking.identity,
        fps=1.0,
        frames=frames,
        train=tuple(range(len(frames))),
        test=(),
        source_hash=source_hash,
        report=report,
    )


def _report(portraits: Sequence[Portrait], tracking: Tracking, model: HeadModel) -> dict[str, Any]:
    """Figures of the images and their heads, as plain JSON values."""
    count, poses = len(portraits), tracking.states.T_world_head.numpy()
    yaws = head_angles(poses)["yaw"]
    pictures = [
        {
            "name": portrait.still.path.name,
            "width": portrait.still.original[0],
            "height": portrait.still.original[1],
            "mode": portrait.still.mode,
            "alpha": portrait.still.alpha is not None,
            "other_faces": portrait.face.others,
            "crop": portrait.framing.report()["crop"],
            "focal_px": round(float(portrait.framing.camera.K[0, 0]), 2),
            "focal_source": portrait.framing.focal_source,
            "yaw_degrees": round(float(yaws[index]), 2),
            "residual_percent": round(float(tracking.residual_percent[index]), 3),
        }
        for index, portrait in enumerate(portraits)
    ]
    figures = tracking_quality(
        tracking.residual_percent.numpy(),
        tracking.states.expression.numpy(),
        model.expression_names,
        poses,
        np.arange(count, dtype=float),
    )
    return {
        "kind": "pictures",
        "pictures": pictures,
        "frames": {"seen": count, "used": count, "train": count, "test": 0, "dropped": {}},
        "tracking": {"iterations": tracking.iterations, **figures},
    }


def _hash(paths: Sequence[Path], options: PortraitOptions, identity: Identity | None) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(options), sort_keys=True).encode())
    for path in paths:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    if identity is not None:
        digest.update(identity.coefficients.numpy().tobytes() + identity.offsets.numpy().tobytes())
    return digest.hexdigest()
