"""The last stages of preprocessing: figures gathered, the capture put together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.preprocess import quality
from likeness.preprocess.crop import Crop
from likeness.preprocess.frames import FrameFiles, read_image
from likeness.preprocess.landmarks import eye_distances
from likeness.preprocess.scan import Scan
from likeness.preprocess.selection import Selection, crowded
from likeness.preprocess.video import VideoInfo
from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.errors import UnusableVideo
from likeness.scene.foreign_paths import shown

if TYPE_CHECKING:
    import numpy as np

    from likeness.head_models.base import HeadModel
    from likeness.preprocess.tracking import Tracking
    from likeness.scene.camera import Camera

_MATTE_COVERS = 0.5  # of a face's landmarks, the part that a usable matte must cover
_CUT_OFF = 0.9  # a file that yields less of the frames it announces is called cut off


def frame_rate(times: np.ndarray) -> float:
    """Frames per second of times [T] in seconds: by the median step, which gaps do not change."""
    import numpy as np

    return round(float(1 / np.median(np.diff(times))), 4)


def assemble(
    root: Path,
    source_hash: str,
    info: VideoInfo,
    size: int,
    scanned: Scan,
    selection: Selection,
    keep: np.ndarray,
    crop: Crop,
    camera: Camera,
    tracking: Tracking,
    model: HeadModel,
    test_fraction: float,
) -> Capture:
    """The capture (not saved yet) of the frames ``keep`` [T'] of a selection, whose files are in
    ``root``.

    The body stands at the mean pose of the training frames. Raises UserError when fewer than two
    frames have mattes that cover the face.
    """
    import numpy as np
    import torch

    from likeness.scene.transforms import mean_transform

    files = FrameFiles(root)
    times = scanned.time_s[selection.frames]
    landmarks = crop.points(selection.points, size)
    covered, mattes = _mattes(files, landmarks[keep], times[keep])
    dropped = dict(selection.dropped)
    if not covered.all():
        dropped["matte does not show the face"] = int((~covered).sum())
    if covered.sum() < 2:
        message = f"{info.path}: the mattes show no head; film before a plain wall, or choose another --matting"
        raise UnusableVideo("matte does not show the face", message)
    places = np.flatnonzero(covered)
    kept = keep[covered]

    num_test = max(1, round(test_fraction * len(kept)))
    num_train = len(kept) - num_test
    index = torch.from_numpy(kept)
    states = tracking.states[index]
    body = (
        mean_transform(states.T_world_head[:num_train]).expand_as(states.T_world_head).contiguous()
    )
    states = dataclasses.replace(states, T_world_body=body)
    frames = tuple(
        TrackedFrame(
            image_path=files.image(int(place)),
            matte_path=files.matte(int(place)),
            time_s=round(float(times[position]), 6),
            camera=camera,
            state=states[number],
            landmarks=torch.from_numpy(landmarks[position]),
            confidence=torch.from_numpy(selection.confidence[position]),
            residual_px=float(tracking.residual_px[position]),
        )
        for number, (place, position) in enumerate(zip(places, kept))
    )
    report = {
        "video": _video_facts(info, scanned),
        "frames": {
            "seen": len(scanned.index),
            "used": len(frames),
            "train": num_train,
            "test": num_test,
            "used_seconds": round(len(frames) / frame_rate(times[kept]), 3),
            "dropped": dropped,
            "cuts_s": selection.cut_times_s,
            "part_s": list(selection.part_s),
            "most_faces": selection.num_people,
            "crowded": round(crowded(scanned), 4),
        },
        "crop": {**dataclasses.asdict(crop), "size": size},
        "camera": {"focal_px": round(float(camera.K[0, 0]), 3)},
        "tracking": {"iterations": tracking.iterations},
        "pictures": quality.picture_quality(
            selection.sharpness[kept],
            selection.luminance[kept],
            eye_distances(selection.points[kept]),
        ),
        "mattes": mattes.figures(),
    }
    capture = Capture(
        root=root,
        head_model=model.name,
        expression_names=tuple(model.expression_names),
        joint_names=tuple(model.joint_names),
        identity=tracking.identity,
        fps=frame_rate(times[kept]),
        frames=frames,
        train=tuple(range(num_train)),
        test=tuple(range(num_train, len(frames))),
        source_hash=source_hash,
        report=report,
    )
    return assess(capture, tracking.eye_distance_px)


def assess(capture: Capture, eye_distance_px: float) -> Capture:
    """The capture with figures and warnings on its states as they are, and on the landmark
    tracker's residuals.

    eye_distance_px: as in ``Tracking``.
    """
    import numpy as np

    states = capture.states
    figures = quality.tracking_quality(
        np.array([frame.residual_px for frame in capture.frames]) * (100 / eye_distance_px),
        states.expression.numpy(),
        capture.expression_names,
        states.T_world_head.numpy(),
        np.array([frame.time_s for frame in capture.frames]),
    )
    figures["lid_opening"] = quality.lid_opening(
        np.stack([frame.landmarks.numpy() for frame in capture.frames])
    )
    report = {**capture.report, "tracking": {**capture.report["tracking"], **figures}}
    report["warnings"] = quality.warnings(report)
    return dataclasses.replace(capture, report=report)


def _mattes(
    files: FrameFiles, landmarks: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, quality.MatteQuality]:
    """Which mattes [T] cover the face's landmarks [T, 478, 2], and the figures over all of them."""
    import numpy as np

    figures = quality.MatteQuality()
    covered = np.zeros(len(landmarks), bool)
    usual = np.median(np.diff(times)) if len(times) > 1 else 0.0
    for position, points in enumerate(landmarks):
        matte = read_image(files.matte(position), "matte")
        x, y = np.clip(points.astype(int), 0, matte.shape[0] - 1).T
        covered[position] = (matte[y, x] > 127).mean() >= _MATTE_COVERS
        follows = position > 0 and times[position] - times[position - 1] < 1.5 * usual
        figures.add(matte, follows)
    return covered, figures


def _video_facts(info: VideoInfo, scanned: Scan) -> dict[str, Any]:
    import numpy as np

    steps = np.diff(scanned.time_s)
    return {
        "name": shown(info.path.name),
        "width": info.width,
        "height": info.height,
        "rotation": info.rotation,
        "fps": info.fps,
        "variable_frame_rate": bool(
            len(steps) and np.percentile(steps, 95) > 1.2 * np.percentile(steps, 5)
        ),
        "duration_s": round(scanned.duration_s, 3),
        "focal_35mm": info.focal_35mm,
        "announced_frames": info.num_frames,
        "decoded_frames": scanned.num_decoded,
        "damaged_frames": scanned.num_damaged,
        "damaged_s": scanned.damaged.round(3).tolist(),
        "frames_without_timestamp": scanned.num_untimed,
        "looked_at_every": scanned.stride,
        "cut_off": bool(scanned.reached_end and scanned.num_decoded < _CUT_OFF * info.num_frames),
    }
