"""Video in, capture out: the stages of preprocessing, each resumable."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.preprocess import cache, quality
from likeness.preprocess.acceptance import Limits, blamed_on_damage, check, of_report
from likeness.preprocess.assembly import TrackedVideo, assemble, assess, frame_rate
from likeness.preprocess.crop import Framing, focal_pixels
from likeness.preprocess.frames import FrameFiles, write_frames
from likeness.preprocess.landmarks import eye_distances
from likeness.preprocess.matting import MattingChoice, choose
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.scan import Scan, scan
from likeness.preprocess.selection import Selection, SelectionConfig, crowded, select, thin
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.video import VideoInfo, open_video
from likeness.preprocess.work import Work, load_tracking, save_tracking
from likeness.scene.capture import MANIFEST, Capture
from likeness.scene.errors import UnusableVideo, UserError

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel
    from likeness.preprocess.matting import MattingModel
    from likeness.preprocess.tracking.tracker import Tracking

_log = logging.getLogger(__name__)

TRACKING = ("pictures", "landmarks")

_MIN_SIDE = 64  # pixels of the short side of a video
_BLACK = 0.03  # a brightness that no frame of a black video reaches
_LOST = (6.0, 4.0)  # tracking lost a frame above this many per cent and this many times the median
_SCAN_CAPACITY = 4  # frames looked at, in units of max_frames


@dataclasses.dataclass(frozen=True)
class PreprocessConfig:
    size: int = 512
    """Side of the capture's square images in pixels."""
    start: float | None = None
    """Seconds of the video to leave out at its beginning."""
    end: float | None = None
    """Second of the video at which to stop."""
    max_frames: int = 2000
    """Of longer videos at most this many frames are used."""
    min_frames: int = 30
    """Fewer usable frames than this cannot be fitted."""
    matting: str = "auto"
    """A name in MATTING; auto: MODNet where its weights are present, else the selfie
    segmentation."""
    head_model: str = "anny"
    """A name in HEAD_MODELS."""
    focal: float | None = None
    """Focal length in units of the long side of the video; None: from metadata, else assumed."""
    test_fraction: float = 0.1
    """Part of the frames, at the end of the clip, that is held out."""
    selection: SelectionConfig = SelectionConfig()
    """Which frames are usable."""
    tracker: TrackerConfig = TrackerConfig()
    """The head tracker."""
    tracking: str = "pictures"
    """landmarks: the head tracker alone, quick; pictures: then photometric tracking."""
    photometric: PhotometricConfig = PhotometricConfig()
    """Photometric tracking."""

    def __post_init__(self) -> None:
        start, end, focal = self.start, self.end, self.focal
        rules = {
            "size": (64 <= self.size <= 4096, "64 to 4096 pixels"),
            "start": (start is None or 0 <= start < math.inf, "seconds from the video's beginning"),
            "end": (end is None or end > (start or 0), f"more than start ({start or 0:g} s)"),
            "min_frames": (
                2 <= self.min_frames <= self.max_frames,
                f"2 to max_frames ({self.max_frames})",
            ),
            "focal": (focal is None or 0.2 <= focal <= 50, "0.2 to 50 times the video's long side"),
            "tracking": (self.tracking in TRACKING, f"one of {', '.join(TRACKING)}"),
            "test_fraction": (0 < self.test_fraction < 1, "a fraction between 0 and 1"),
        }
        for field, (valid, expected) in rules.items():
            if not valid:
                raise UserError(f"{field}: expected {expected}, got {getattr(self, field)!r}")


def find_or_build(
    video: Path, cache_root: Path, options: PreprocessConfig = PreprocessConfig(), **kwargs: Any
) -> Capture:
    """The capture of a video with these settings from the cache, made there if it is not.

    Takes the keyword arguments of ``build_capture``. The captures lie in ``cache_root`` by the
    first digits of their hash.
    """
    job = _Job.of(Path(video), options, **kwargs)
    return _build(job, Path(cache_root) / job.key[:16])


def build_capture(
    video: Path, root: Path, options: PreprocessConfig = PreprocessConfig(), **kwargs: Any
) -> Capture:
    """Makes the capture of a video in ``root``, or resumes work that was begun there, or returns
    it if finished.

    Keyword arguments: device (cpu): where networks and photometric tracking run. weights (None),
    download (True): where weights may come from (``likeness.preprocess.weights``). progress (True):
    whether bars are drawn. limits: what the video must keep to; no part of what makes a capture.
    purpose (avatar): a name in ``quality.PURPOSES``, by which advice on the next video is logged;
    the report has what an avatar needs. The stages: landmarks, tracking, frames with mattes,
    quality, photometric tracking; the manifest comes last. Work files lie in ``root/work``. Raises
    UnusableVideo for videos that cannot be used, other UserErrors when ``root`` holds something
    else or cannot be written.
    """
    return _build(_Job.of(Path(video), options, **kwargs), Path(root))


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be done. ``key`` names the result: by the video's content, the settings, the
    pipeline's version."""

    info: VideoInfo
    options: PreprocessConfig
    matting: MattingModel
    matting_note: str
    device: str
    progress: bool
    limits: Limits
    purpose: str
    key: str

    @classmethod
    def of(
        cls,
        video: Path,
        options: PreprocessConfig,
        *,
        device: str = "cpu",
        weights: Path | None = None,
        download: bool = True,
        progress: bool = True,
        limits: Limits = Limits(),
        purpose: str = "avatar",
    ) -> _Job:
        info = open_video(video)
        if min(info.width, info.height) < _MIN_SIDE:
            raise UnusableVideo(
                "picture too small",
                f"{video}: its image has {info.width}x{info.height} pixels; expected at least "
                f"{_MIN_SIDE} on each side, and a face that fills a good part of it",
            )
        matting, note = choose(MattingChoice(options.matting, device, weights, download))
        settings = {**dataclasses.asdict(options), "matting": matting.name}
        key = cache.source_hash(video, settings)
        return cls(info, options, matting, note, device, progress, limits, purpose, key)


def _build(job: _Job, root: Path) -> Capture:
    info, options = job.info, job.options
    with cache.locked(root):
        if (capture := _finished(job, root)) is not None:
            return capture
        # of a writer that was killed; the lock says that none is at work
        for debris in root.rglob(".*.partial*"):
            debris.unlink(missing_ok=True)
        work = Work(root / "work", job.key, job.progress)
        with work.stage("landmarks"):
            capacity = _SCAN_CAPACITY * options.max_frames
            scanned = work.result(
                "landmarks.npz",
                Scan.load,
                lambda: scan(info, options.start, options.end, capacity, progress=job.progress),
                lambda path, result: result.save(path),
            )
        with blamed_on_damage(info, scanned):
            return _build_from(scanned, job, root, work)


def _finished(job: _Job, root: Path) -> Capture | None:
    """The finished capture that lies there. None where there is none, or a damaged one that can be
    made anew.

    Raises UserError for that of another video, or of a video that breaks today's limits.
    """
    if not (root / MANIFEST).is_file():
        return None
    try:
        capture = Capture.load(root)
    except UserError as error:
        if root.name != job.key[:16] and Work.key(root / "work") != job.key:
            raise
        _log.warning("%s (this is done now)", error)
        return _reopen(root)
    if capture.source_hash != job.key:
        raise UserError(
            f"{root}: holds the capture of another video or of other settings, or of an older "
            "version; choose another folder"
        )
    if damaged := FrameFiles(root).damaged():
        _log.warning(
            "%s: damaged, with %d others; they are made anew", damaged[0], len(damaged) - 1
        )
        return _reopen(root)
    check(job.info.path, of_report(capture.report), job.limits)
    return capture


def _reopen(root: Path) -> None:
    """Makes a damaged capture an unfinished one."""
    # may have been removed; without one, images are somebody else's
    (root / "work").mkdir(exist_ok=True)
    (root / MANIFEST).unlink()


def _build_from(scanned: Scan, job: _Job, root: Path, work: Work) -> Capture:
    """The stages after the first pass over a video."""
    info, options = job.info, job.options
    selection = _usable(info, scanned, options)
    figures = {
        "crowded": crowded(scanned),
        "cuts": len(selection.cut_times_s),
        "eye_distance": float(np.median(eye_distances(selection.points))),
    }
    check(info.path, figures, job.limits)
    focal = focal_pixels(info, options.focal)
    framing = Framing.of(selection.points, info, options.size, *focal)
    with work.stage("tracking"):
        model = _head_model(options.head_model)
        tracking = _track(selection, framing, model, options, work)
    video = _followed(TrackedVideo(info, scanned, selection, framing, model, tracking), options)
    residual = float(np.median(video.tracking.residual_percent))
    check(info.path, {"residual": residual}, job.limits)
    with work.stage("frames"):
        files = FrameFiles(root)
        work.frames(files)
        indices = scanned.index[video.selection.frames].tolist()
        write_frames(info, indices, framing, job.matting, files, job.progress)
    with work.stage("quality"):
        capture = assemble(root, job.key, video, options.test_fraction)
    if options.tracking == "pictures":
        from likeness.preprocess.photometric.refinement import refine

        with work.stage("picture tracking"):
            capture = refine(
                capture,
                options.photometric,
                device=job.device,
                checkpoint=work.checkpoint("picture_tracking.safetensors"),
                progress=job.progress,
            )
    matting = {"name": job.matting.name, "note": job.matting_note}
    capture = assess(capture, tracking, {"matting": matting, "seconds": work.seconds()})
    for warning in quality.warnings(capture.report, purpose=job.purpose):
        _log.warning("%s: %s; better: %s", info.path.name, warning["what"], warning["remedy"])
    capture.save()
    return capture


def _head_model(name: str) -> HeadModel:
    from likeness.head_models import HEAD_MODELS

    if name not in HEAD_MODELS:
        raise UserError(f"head_model: no model named {name!r}; known: {', '.join(HEAD_MODELS)}")
    return HEAD_MODELS[name]()


def _usable(info: VideoInfo, scanned: Scan, options: PreprocessConfig) -> Selection:
    """The usable frames. Raises UserError when there are too few, with the reason that weighs
    most."""
    count, least = len(scanned.index), options.min_frames
    frames = f"{count} frame" + "s" * (count != 1)
    if count < least:
        raise UnusableVideo(
            "too short",
            f"{info.path}: has {frames} to look at; at least {least} are needed: "
            "film some seconds (one to two minutes are best), or widen --start and --end",
        )
    if float(scanned.luminance.max()) < _BLACK:
        raise UnusableVideo(
            "black", f"{info.path}: all {frames} are black; check lens and light, and film again"
        )
    if len(scanned.points) == 0:
        raise UnusableVideo(
            "no face",
            f"{info.path}: no face was found in any of its {frames}; expected one person's head, "
            "large, facing the camera and well lit",
        )
    selection = select(scanned, info.width, info.height, options.selection)
    if len(selection.frames) < least:
        raise UnusableVideo(
            max(selection.dropped, key=selection.dropped.__getitem__),
            f"{info.path}: only {len(selection.frames)} of {frames} can be used "
            f"({quality.describe(selection.dropped)}); at least {least} are needed: film one head, "
            "in focus, uncut",
        )
    return thin(selection, options.max_frames, options.selection.variety)


def _track(
    selection: Selection, framing: Framing, model: HeadModel, options: PreprocessConfig, work: Work
) -> Tracking:
    import torch

    from likeness.preprocess.tracking.tracker import track

    times = selection.time_s
    return work.result(
        "tracking.npz",
        lambda path: load_tracking(path, len(times)),
        lambda: track(
            torch.from_numpy(framing.points(selection.points)),
            torch.from_numpy(selection.confidence),
            framing.camera.K,
            model,
            frame_rate(times),
            options.tracker,
            progress=work.progress,
            times=torch.from_numpy(times),
        ),
        save_tracking,
    )


def _followed(video: TrackedVideo, options: PreprocessConfig) -> TrackedVideo:
    """The frames whose residual says that the head was followed. UserError when too few are
    left."""
    percent = video.tracking.residual_percent.numpy()
    keep = percent <= max(_LOST[0], _LOST[1] * float(np.median(percent)))
    if (count := int(keep.sum())) < options.min_frames:
        raise UnusableVideo(
            "head could not be followed",
            f"{video.info.path}: the head could be followed in only {count} of {len(percent)} "
            f"frames; at least {options.min_frames} are needed: film the face larger, in focus, "
            "with nothing before it",
        )
    return video.take(keep, "head could not be followed")
