"""Pictures of one person in, capture out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.preprocess.crop import Crop, choose_crop, crop_camera, focal_pixels
from likeness.preprocess.portraits.faces import Face, find_face, open_detector
from likeness.preprocess.portraits.mattes import MatteChoice, write_pictures
from likeness.preprocess.portraits.reading import Still, read_still
from likeness.preprocess.portraits.warnings import find_warnings
from likeness.preprocess.quality import head_angles, tracking_quality
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from likeness.head_models.base import HeadModel
    from likeness.preprocess.tracking import Tracking
    from likeness.scene.camera import Camera
    from likeness.scene.capture import Capture, Identity

_log = logging.getLogger(__name__)

MAX_PICTURES = 32
MAX_YAW_DEGREES = 60.0  # beyond, half of the face is guessed, and the detector's points with it
_MAX_RESIDUAL = 5.0  # per cent of the eye distance
_USUAL_DISTANCE_M = 1.2  # at which portraits are taken that say nothing of their lens
_FACE_HEIGHT_M = 0.165  # forehead to chin of the detector's points on the mean head


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """How pictures become a capture."""

    size: int = 512
    """Side of the capture's square pictures in pixels."""
    focal: float | None = None
    """Focal length in units of the pictures' long sides; None: by the file, else assumed."""
    matting: str = "auto"
    """A name in MATTING, or auto."""
    head_model: str = "anny"
    """A name in HEAD_MODELS."""

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise UserError(f"size: expected 64 to 4096 pixels, got {self.size}")
        if self.focal is not None and not 0.2 <= self.focal <= 50:
            raise UserError(
                f"focal: expected 0.2 to 50 times the picture's long side, got {self.focal}"
            )


def build_capture(
    paths: Sequence[Path],
    root: Path,
    options: PictureOptions = PictureOptions(),
    *,
    identity: Identity | None = None,
    device: str = "cpu",
    weights: Path | None = None,
    download: bool = True,
) -> Capture:
    """Makes the capture of one person's pictures in ``root``: all of them for training, none held
    out.

    identity: of a person who is known already (in the terms of ``options.head_model``). device,
    weights, download: of the matting. ``report["seconds"]`` holds the seconds by part. Raises
    UserError for pictures that cannot be used.
    """
    from likeness.head_models import HEAD_MODELS

    if not 1 <= len(paths) <= MAX_PICTURES:
        raise UserError(f"pictures: expected 1 to {MAX_PICTURES} of one person, got {len(paths)}")
    clock = _Clock()
    stills = [read_still(path) for path in paths]
    clock.lap("reading")
    with open_detector() as detector:
        faces = [find_face(still, detector) for still in stills]
    clock.lap("face")
    crops = [
        choose_crop(face.points[None], still.width, still.height)
        for face, still in zip(faces, stills)
    ]
    cameras, sources = zip(*(_camera(*item, options) for item in zip(stills, faces, crops)))
    model = HEAD_MODELS[options.head_model]()
    tracking, landmarks = _tracked(stills, faces, crops, cameras, model, identity, options)
    clock.lap("head")
    choice = MatteChoice(options.matting, device, weights, download)
    note = write_pictures(Path(root), stills, crops, landmarks, options.size, choice)
    clock.lap("matte")
    frames = _Gathered(
        tuple(stills), tuple(faces), tuple(crops), tuple(cameras), tuple(sources), landmarks
    )
    report = _report(frames, tracking, model, note) | {"seconds": clock.seconds()}
    capture = _assemble(
        Path(root), frames, tracking, model, _hash(paths, options, identity), report
    )
    for warning in report["warnings"]:
        _log.warning("%s: %s; better: %s", warning.pop("name"), warning["what"], warning["remedy"])
    capture.save()
    return capture


@dataclasses.dataclass(frozen=True)
class _Gathered:
    """What is known of T pictures; landmarks: [T, 478, 2] pixels of the crops."""

    stills: tuple[Still, ...]
    faces: tuple[Face, ...]
    crops: tuple[Crop, ...]
    cameras: tuple[Camera, ...]
    focal_sources: tuple[str, ...]
    landmarks: np.ndarray


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


def _camera(still: Still, face: Face, crop: Crop, options: PictureOptions) -> tuple[Camera, str]:
    """The crop's camera, and where its focal length comes from in words."""
    import numpy as np

    from likeness.head_models.landmarks import CHIN, FOREHEAD

    if options.focal is not None or still.focal_35mm is not None:
        focal, source = focal_pixels(still, options.focal)
        source = source.replace("video's", "picture's")
    else:
        height = float(np.linalg.norm(face.points[FOREHEAD] - face.points[CHIN]))
        focal = max(
            height * _USUAL_DISTANCE_M / _FACE_HEIGHT_M, 0.8 * max(still.width, still.height)
        )
        source = f"assumed: a portrait from {_USUAL_DISTANCE_M:g} m or more"
    return crop_camera(still, crop, focal, options.size), source


def _tracked(
    stills: Sequence[Still],
    faces: Sequence[Face],
    crops: Sequence[Crop],
    cameras: Sequence[Camera],
    model: HeadModel,
    identity: Identity | None,
    options: PictureOptions,
) -> tuple[Tracking, np.ndarray]:
    """The heads, and the landmarks [T, 478, 2] in the crops. Raises UserError for what cannot be
    followed."""
    import numpy as np
    import torch

    from likeness.preprocess.portraits.tracking import track_pictures
    from likeness.scene.camera import Camera

    points = np.stack(
        [crop.points(face.points, options.size) for crop, face in zip(crops, faces)]
    ).astype(np.float32)
    tracking = track_pictures(
        torch.from_numpy(points), Camera.stack(list(cameras)), model, identity
    )
    yaws = head_angles(tracking.states.T_world_head.numpy())["yaw"]
    for still, yaw, percent in zip(stills, yaws, tracking.residual_percent.tolist()):
        if abs(yaw) > MAX_YAW_DEGREES:
            raise UserError(
                f"{still.path}: the head is turned by {abs(yaw):.0f}°; expected at most {MAX_YAW_DEGREES:.0f}°: give "
                "a picture from the front or half from the side"
            )
        if percent > _MAX_RESIDUAL:
            raise UserError(
                f"{still.path}: the head model does not follow this face (error {percent:.0f} % of the eye distance, "
                f"expected at most {_MAX_RESIDUAL:.0f} %): give one with nothing before the face, and no grimace"
            )
    return tracking, points


def _assemble(
    root: Path,
    gathered: _Gathered,
    tracking: Tracking,
    model: HeadModel,
    source_hash: str,
    report: dict[str, Any],
) -> Capture:
    import torch

    from likeness.preprocess.frames import FrameFiles
    from likeness.scene.capture import Capture, TrackedFrame

    files = FrameFiles(root)
    frames = tuple(
        TrackedFrame(
            files.image(index),
            files.matte(index),
            float(index),
            camera,
            tracking.states[index],
            torch.from_numpy(gathered.landmarks[index]),
            torch.ones(gathered.landmarks.shape[1]),
            float(tracking.residual_px[index]),
        )
        for index, camera in enumerate(gathered.cameras)
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


def _report(
    gathered: _Gathered, tracking: Tracking, model: HeadModel, matting: dict[str, str]
) -> dict[str, Any]:
    """What was found out, as plain JSON values."""
    import numpy as np

    count = len(gathered.stills)
    angles = head_angles(tracking.states.T_world_head.numpy())
    pictures = [
        {
            "name": still.path.name,
            "width": still.original[0],
            "height": still.original[1],
            "mode": still.mode,
            "alpha": still.alpha is not None,
            "other_faces": face.others,
            "crop": {**dataclasses.asdict(crop), "size": camera.width},
            "focal_px": round(float(camera.K[0, 0]), 2),
            "focal_source": source,
            "yaw_degrees": round(float(angles["yaw"][index]), 2),
            "residual_percent": round(float(tracking.residual_percent[index]), 3),
        }
        for index, (still, face, crop, camera, source) in enumerate(
            zip(
                gathered.stills,
                gathered.faces,
                gathered.crops,
                gathered.cameras,
                gathered.focal_sources,
            )
        )
    ]
    figures = tracking_quality(
        tracking.residual_percent.numpy(),
        tracking.states.expression.numpy(),
        model.expression_names,
        tracking.states.T_world_head.numpy(),
        np.arange(count, dtype=float),
    )
    return {
        "kind": "pictures",
        "pictures": pictures,
        "frames": {"seen": count, "used": count, "train": count, "test": 0, "dropped": {}},
        "tracking": {"iterations": tracking.iterations, **figures},
        "matting": matting,
        "warnings": find_warnings(pictures, [face.points for face in gathered.faces]),
    }


def _hash(paths: Sequence[Path], options: PictureOptions, identity: Identity | None) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(options), sort_keys=True).encode())
    for path in paths:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    if identity is not None:
        digest.update(identity.coefficients.numpy().tobytes() + identity.offsets.numpy().tobytes())
    return digest.hexdigest()
