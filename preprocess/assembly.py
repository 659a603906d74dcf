"""The last stages of preprocessing: figures gathered, the capture put together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.preprocess import quality
from likeness.preprocess.crop import Framing
from likeness.preprocess.frames import FrameFiles, read_image, shown_share
from likeness.preprocess.landmarks import eye_distances
from likeness.preprocess.scan import Scan
from likeness.preprocess.selection import Selection, crowded
from likeness.preprocess.video import VideoInfo
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture, TrackedFrames
from likeness.scene.errors import UnusableVideo
from likeness.scene.foreign_paths import shown

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel
    from likeness.preprocess.tracking.tracker import Tracking

_MATTE_COVERS = 0.5  # of a face's landmarks, the part that a usable matte must cover
_CUT_OFF = 0.9  # a file that yields less of the frames it announces is called cut off


@dataclasses.dataclass(frozen=True)
class TrackedVideo:
    """All that is known of a video before its mattes: tracking is of the selection's T frames."""

    info: VideoInfo
    scan: Scan
    selection: Selection
    framing: Framing
    model: HeadModel
    tracking: Tracking

    def take(self, mask: np.ndarray, reason: str) -> TrackedVideo:
        """The frames in a mask [T]; the others are counted as dropped for this reason."""
        import torch

        return dataclasses.replace(
            self,
            selection=self.selection.take(mask, reason),
            tracking=self.tracking.take(torch.from_numpy(mask)),
        )


def frame_rate(times: np.ndarray) -> float:
    """Frames per second of times [T] in seconds: by the median step, which gaps do not change."""
    return round(float(1 / np.median(np.diff(times))), 4)


def assemble(root: Path, source_hash: str, video: TrackedVideo, test_fraction: float) -> Capture:
    """The capture (not saved yet) of a video's frames, whose files are in ``root``.

    The body stands at the mean pose of the training frames. Raises UserError when fewer than two
    frames have mattes that cover the face.
    """
    import torch

    from likeness.scene.transforms import mean_transform

    files = FrameFiles(root)
    covered, mattes = _mattes(files, video)
    if covered.sum() < 2:
        raise UnusableVideo(
            "matte does not show the face",
            f"{video.info.path}: the mattes show no head; film before a plain wall, or choose "
            "another --matting",
        )
    video = video.take(covered, "matte does not show the face")
    selection, tracking, model = video.selection, video.tracking, video.model
    count, fps = len(selection.frames), frame_rate(selection.time_s)
    num_train = count - max(1, round(test_fraction * count))
    states = tracking.states
    body = mean_transform(states.T_world_head[:num_train])
    states = dataclasses.replace(
        states, T_world_body=body.expand_as(states.T_world_head).contiguous()
    )
    places = np.flatnonzero(covered).tolist()
    frames = TrackedFrames(
        image_paths=tuple(files.image(place) for place in places),
        matte_paths=tuple(files.matte(place) for place in places),
        times_s=torch.from_numpy(selection.time_s).double().round(decimals=6),
        cameras=Camera.stack([video.framing.camera] * count),
        states=states,
        landmarks=torch.from_numpy(video.framing.points(selection.points)),
        confidence=torch.from_numpy(selection.confidence),
        residuals_px=torch.as_tensor(tracking.residual_px).double(),
    )
    report = {
        "video": _video_facts(video.info, video.scan),
        "frames": {
            "seen": len(video.scan.index),
            "used": count,
            "train": num_train,
            "test": count - num_train,
            "used_seconds": round(count / fps, 3),
            "dropped": selection.dropped,
            "cuts_s": selection.cut_times_s,
            "part_s": list(selection.part_s),
            "most_faces": selection.num_people,
            "crowded": round(crowded(video.scan), 4),
        },
        **video.framing.report(),
        "pictures": quality.image_quality(
            selection.sharpness, selection.luminance, eye_distances(selection.points)
        ),
        "mattes": mattes.figures(),
    }
    return Capture(
        root=root,
        head_model=model.name,
        expression_names=tuple(model.expression_names),
        joint_names=tuple(model.joint_names),
        identity=tracking.identity,
        fps=fps,
        frames=frames,
        train=tuple(range(num_train)),
        test=tuple(range(num_train, count)),
        source_hash=source_hash,
        report=report,
    )


def assess(capture: Capture, tracking: Tracking, notes: dict[str, Any]) -> Capture:
    """The capture with a whole report: figures of its states as they are, and of the landmark
    tracker's residuals; ``notes``; the warnings that follow.

    tracking: the landmark tracker's.
    """

    states = capture.states
    figures = quality.tracking_quality(
        capture.frames.residuals_px.numpy() * (100 / tracking.eye_distance_px),
        states.expression.numpy(),
        capture.expression_names,
        states.T_world_head.numpy(),
        capture.frames.times_s.numpy(),
    )
    lid_opening = quality.lid_opening(capture.frames.landmarks.numpy())
    figures |= {"iterations": tracking.iterations, "lid_opening": lid_opening}
    report = {**capture.report, "tracking": figures, **notes}
    report["warnings"] = quality.warnings(report)
    return dataclasses.replace(capture, report=report)


def _mattes(files: FrameFiles, video: TrackedVideo) -> tuple[np.ndarray, quality.MatteQuality]:
    """Which mattes [T] cover the face's landmarks, and the figures over all of them."""
    times, landmarks = video.selection.time_s, video.framing.points(video.selection.points)
    figures = quality.MatteQuality()
    covered = np.zeros(len(landmarks), bool)
    usual = np.median(np.diff(times)) if len(times) > 1 else 0.0
    for position, points in enumerate(landmarks):
        matte = read_image(files.matte(position), "matte")
        covered[position] = shown_share(matte, points) >= _MATTE_COVERS
        follows = position > 0 and times[position] - times[position - 1] < 1.5 * usual
        figures.add(matte, follows)
    return covered, figures


def _video_facts(info: VideoInfo, scanned: Scan) -> dict[str, Any]:
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
