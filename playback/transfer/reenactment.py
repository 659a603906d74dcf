"""How well an avatar does what a driver does: CSIM, AED, APD and AKD.

Both clips, the driver's images and the avatar's, go through the same landmark detector and head
tracker. Two variants of each distance are given, for transfers and, as the reference, for the
avatar on held-out frames of its own recording:

* ``papers``: frame by frame, as LAM and GAGAvatar report them (they name the estimators, not the
  formulas; the public programs take the mean absolute difference of coefficients, without removing
  a mean). AED: mean absolute difference of the expression coefficients, and its mean L2 norm. APD:
  the same two of the head's rotation vector against a head that faces the camera, in radians, and
  the mean angle between the rotations in degrees. AKD: mean L2 distance of the 478 landmarks in
  pixels of an image of 512 rows; only of self-reenactment, where both images have the same camera
  and face.
* ``motion``: with each clip's mean of expressions, rotations and landmarks removed: faces differ at
  rest, and a transfer means to keep that difference. AED is the mean absolute difference, APD the
  mean angle in degrees, AKD the mean distance of the landmarks in per cent of each clip's distance
  of the outer eye corners.

Absolute values depend on the estimators; ours are not the papers'. CSIM: cosine of the
face-identity embeddings of the avatar's images and the mean embedding of the person's own. A driver
without images is compared by its own states.

This module needs ``preprocess`` (detector, tracker): for measuring, not for playing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import to_uint8
from likeness.playback.chosen_states import rate_of
from likeness.playback.drivers.base import Recording
from likeness.playback.player import Player
from likeness.playback.transfer.identity import IdentityModel
from likeness.playback.transfer.retarget import RetargetConfig
from likeness.playback.transfer.running import transfer
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    invert_transform,
    matrices_to_rotvecs,
    mean_transform,
    rotation_angles,
)

MAX_FRAMES = 120
PAPER_ROWS = 512
"""Rows of the papers' images, in whose pixels AKD is given."""
_FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # rotation of a head that faces the camera
_MIN_FACES = 8
_NO_MODEL = "no network for face identity given (--identity-model FILE.onnx)"
_NO_IMAGES = "the driver has no images"


@dataclasses.dataclass(frozen=True)
class Clip:
    """What detector and tracker make of T images.

    found: [T] bool, whether a face was detected. landmarks: [T, 478, 2] pixels. states: [T] by the
    tracker. embeddings: [faces, D], or None.
    """

    found: Tensor
    landmarks: Tensor
    states: HeadState
    embeddings: np.ndarray | None


def measure(
    run: Path,
    bundle: AvatarBundle,
    driver: Recording,
    *,
    identity: IdentityModel | None = None,
    config: RetargetConfig = RetargetConfig(),
    neutral: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """The figures as plain JSON: ``self`` (held-out frames of the run's own capture without their
    secondary motion), ``driven``.

    Of each: csim; papers (aed, aed_l2, apd_radians, apd_l2_radians, apd_degrees, akd_pixels);
    motion (aed, apd_degrees, akd_percent); frames. None where something is not measured;
    ``reasons`` says why.
    """
    player, capture = Player(bundle, device), Capture.load(Path(run) / "capture")

    def seen(images: Iterable, K: Tensor, times: Tensor, model: IdentityModel | None, name: str):
        return see(images, K, times, bundle, model, name if progress else None, len(times))

    test = [capture.frames[index] for index in _spread(list(capture.test))]
    times = torch.tensor([frame.time_s for frame in test], dtype=torch.float64)
    truth = [to_uint8(composite(load_rgba(frame))) for frame in test]
    own = [_play(player, frame.state.without_secondary_motion(), frame.camera) for frame in test]
    K = test[0].camera.K
    real = seen(truth, K, times, identity, "own images")
    played = seen(own, K, times, identity, "self-reenactment")
    pixels = PAPER_ROWS / truth[0].shape[0]
    result = {"self": _figures(real, real.states, played, real, capture.root, pixels)}

    frames = _spread(list(range(len(driver))))
    states = transfer(bundle, driver, config, neutral=neutral)
    times, camera = driver.times[frames], bundle.default_camera
    images = (_play(player, states[index], camera) for index in frames)
    driven = seen(images, camera.K, times, identity, "driven avatar")
    theirs = None
    if driver.images is not None and driver.K is not None:
        images = [to_uint8(driver.images(index)) for index in frames]
        theirs = seen(images, driver.K, times, None, "driver")
    target = driver.states[frames] if theirs is None else theirs.states
    result["driven"] = _figures(theirs, target, driven, real, driver.name)
    return {**result, "driver": driver.name}


def see(
    images: Iterable[np.ndarray],
    K: Tensor,
    times: Tensor,
    bundle: AvatarBundle,
    identity: IdentityModel | None = None,
    progress: str | None = None,
    total: int | None = None,
) -> Clip:
    """Detects and tracks images [H, W, 3] uint8 at times [T]. Raises UserError when too few show a
    face."""
    from tqdm import tqdm

    from likeness.head_models import HEAD_MODELS
    from likeness.preprocess.landmarks import detect
    from likeness.preprocess.tracking.tracker import track

    images = list(tqdm(images, progress, total, unit="frame", disable=progress is None))
    marks = detect(iter(images), max_faces=1)
    if marks.found.sum() < _MIN_FACES:
        raise UserError(
            f"reenactment: a face was found in only {int(marks.found.sum())} of {len(images)} "
            "images"
        )
    points, found = torch.from_numpy(marks.points), torch.from_numpy(marks.found)
    confidence = found[:, None].float().expand(-1, points.shape[1])
    model = HEAD_MODELS[bundle.head_model]()
    states = track(points, confidence, K, model, rate_of(times), times=times).states
    embeddings = None
    if identity is not None:
        faces = np.flatnonzero(marks.found)
        embeddings = np.stack([identity(images[i], marks.points[i]) for i in faces])
    return Clip(found, points, states, embeddings)


def expression_distances(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean absolute difference (AED) of coefficients [T, E] of the same moments, and the mean L2
    norm of it."""
    return float((a - b).abs().mean()), float((a - b).norm(dim=-1).mean())


def pose_distances(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The same (APD) of the rotation vectors of poses [T, 4, 4], from a head that faces the camera;
    radians."""
    vectors = [matrices_to_rotvecs(_FACING.to(pose).T @ pose[:, :3, :3]) for pose in (a, b)]
    return expression_distances(*vectors)


def pose_angle(a: Tensor, b: Tensor) -> float:
    """Mean angle between the rotations of poses [T, 4, 4] of the same moments, in degrees."""
    return float(torch.rad2deg(rotation_angles(a[:, :3, :3].transpose(1, 2) @ b[:, :3, :3])).mean())


def motion_of(poses: Tensor) -> Tensor:
    """Poses [T, 4, 4] from their own mean."""
    return invert_transform(mean_transform(poses)) @ poses


def landmark_distance(a: Tensor, b: Tensor) -> float:
    """AKD of the motion of landmarks [T, L, 2] of the same moments, in per cent of each clip's eye
    distance."""
    from likeness.head_models.landmarks import EYE_CORNERS

    motions = []
    for points in (a, b):
        eyes = (points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]]).norm(dim=-1).median()
        motions.append((points - points.mean(0)) / eyes)
    return float((motions[0] - motions[1]).norm(dim=-1).mean() * 100)


def _figures(
    driver: Clip | None,
    target: HeadState,
    avatar: Clip,
    person: Clip,
    name: Any,
    pixels: float | None = None,
) -> dict[str, Any]:
    """pixels: of the papers' images in one of these; None where the two images are not of one
    camera and face."""
    both = avatar.found if driver is None else avatar.found & driver.found
    if int(both.sum()) < _MIN_FACES:
        raise UserError(f"{name}: faces were found in only {int(both.sum())} pairs of images")
    reasons, csim, akd, akd_pixels = {}, None, None, None
    if avatar.embeddings is None or person.embeddings is None:
        reasons["csim"] = _NO_MODEL
    else:
        mean = person.embeddings.mean(0)
        csim = float((avatar.embeddings @ (mean / np.linalg.norm(mean))).mean())
    if driver is None:
        reasons["akd"] = _NO_IMAGES
    else:
        points = driver.landmarks[both], avatar.landmarks[both]
        akd = landmark_distance(*points)
        if pixels is not None:
            akd_pixels = pixels * float((points[0] - points[1]).norm(dim=-1).mean())
    expressions = target.expression[both], avatar.states.expression[both]
    poses = target.T_world_head[both], avatar.states.T_world_head[both]
    (aed, aed_l2), (apd, apd_l2) = expression_distances(*expressions), pose_distances(*poses)
    return {
        "csim": csim,
        "papers": {
            "aed": aed,
            "aed_l2": aed_l2,
            "apd_radians": apd,
            "apd_l2_radians": apd_l2,
            "apd_degrees": pose_angle(*poses),
            "akd_pixels": akd_pixels,
        },
        "motion": {
            "aed": expression_distances(*(e - e.mean(0) for e in expressions))[0],
            "apd_degrees": pose_angle(*map(motion_of, poses)),
            "akd_percent": akd,
        },
        "frames": int(both.sum()),
        "frames_without_face": int((~both).sum()),
        "reasons": reasons,
    }


# of the table: heading, part and key of the figures, width, digits
_COLUMNS = (
    ("CSIM", None, "csim", 8, 3),
    ("AED", "papers", "aed", 9, 4),
    ("L2", "papers", "aed_l2", 8, 3),
    ("APD rad", "papers", "apd_radians", 9, 4),
    ("L2", "papers", "apd_l2_radians", 8, 3),
    ("°", "papers", "apd_degrees", 8, 2),
    ("AKD px", "papers", "akd_pixels", 8, 2),
    ("AED", "motion", "aed", 9, 4),
    ("APD °", "motion", "apd_degrees", 8, 2),
    ("AKD %", "motion", "akd_percent", 8, 2),
)


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [
        f"{'':36s}{'as the papers, frame by frame':^50s}{'motion alone':^25s}",
        " " * 28 + "".join(f"{label:>{width}s}" for label, _, _, width, _ in _COLUMNS) + "  frames",
    ]
    labels = {"self": "self, held-out frames", "driven": f"driven by {figures['driver']}"[:27]}
    for part, label in labels.items():
        cells = []
        for _, group, key, width, digits in _COLUMNS:
            value = (figures[part][group] if group else figures[part])[key]
            cells.append(f"{'–':>{width}s}" if value is None else f"{value:{width}.{digits}f}")
        lines.append(f"{label:28s}" + "".join(cells) + f"{figures[part]['frames']:8d}")
    reasons = figures["self"]["reasons"] | figures["driven"]["reasons"]
    return "\n".join(
        [*lines, *(f"{name.upper()}: not measured: {reason}" for name, reason in reasons.items())]
    )


def _spread(indices: list[int]) -> list[int]:
    """At most MAX_FRAMES of some frames, evenly spread."""
    return indices[:: -(-len(indices) // MAX_FRAMES)]


def _play(player: Player, state: HeadState, camera: Camera) -> np.ndarray:
    return to_uint8(player.step(state, camera, torch.ones(3)).rgb)
