"""Video in, capture out: the stages of preprocessing, each resumable."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.preprocess import cache, quality
from likeness.preprocess.acceptance import Limits, blamed_on_damage, check, of_report
from likeness.preprocess.assembly import assemble, assess, frame_rate
from likeness.preprocess.crop import Crop, choose_crop, crop_camera, focal_pixels
from likeness.preprocess.frames import FrameFiles, write_frames
from likeness.preprocess.landmarks import eye_distances
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.scan import Scan, scan
from likeness.preprocess.selection import Selection, SelectionConfig, crowded, select, thin
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.video import VideoInfo, open_video
from likeness.preprocess.work import Work, load_tracking, save_tracking
from likeness.scene.capture import MANIFEST, Capture
from likeness.scene.errors import UnusableVideo, UserError
from likeness.scene.image_files import is_whole_png

if TYPE_CHECKING:
    import numpy as np

    from likeness.head_models.base import HeadModel
    from likeness.preprocess.matting import MattingModel
    from likeness.preprocess.tracking import Tracking
    from likeness.scene.camera import Camera

_log = logging.getLogger(__name__)

TRACKING = ("pictures", "landmarks")

_MIN_PICTURE = 64  # pixels of the short side of a video
_BLACK = 0.03  # a brightness that no frame of a black video reaches
_LOST = (6.0, 4.0)  # tracking lost a frame above this many per cent and this many times the median
_SCAN_CAPACITY = 4  # frames looked at, in units of max_frames


@dataclasses.dataclass(frozen=True)
class PreprocessConfig:
    size: int = 512
    """Side of the capture's square pictures in pixels."""
    start: float | None = None
    """Seconds of the video to leave out at its beginning."""
    end: float | None = None
    """Second of the video at which to stop."""
    max_frames: int = 2000
    """Longer videos are sampled down evenly to at most this many frames."""
    min_frames: int = 30
    """Fewer usable frames than this cannot be fitted."""
    matting: str = "auto"
    """A name in MATTING; auto: MODNet where its weights are present, else the selfie
    segmentation."""
    head_model: str = "anny"
    """A name in HEAD_MODELS."""
    focal: float | None = None
    """Focal length in units of the long side of the video's picture; None: from metadata, else
    assumed."""
    test_fraction: float = 0.1
    """Part of the frames, at the end of the clip, that is held out."""
    selection: SelectionConfig = SelectionConfig()
    """Which frames are usable."""
    tracker: TrackerConfig = TrackerConfig()
    """The head tracker."""
    tracking: str = "pictures"
    """landmarks: the head tracker alone, quick; pictures: what it finds is refined on the pictures
    themselves."""
    photometric: PhotometricConfig = PhotometricConfig()
    """That refinement."""

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise UserError(f"size: expected 64 to 4096 pixels, got {self.size}")
        if self.start is not None and not (math.isfinite(self.start) and self.start >= 0):
            raise UserError(
                f"start: expected seconds from the beginning of the video, got {self.start}"
            )
        if self.end is not None and not self.end > (self.start or 0):
            raise UserError(
                f"end: expected more than start ({self.start or 0:g} s), got {self.end:g} s"
            )
        if not 2 <= self.min_frames <= self.max_frames:
            raise UserError(
                f"min_frames: expected 2 to max_frames ({self.max_frames}), got {self.min_frames}"
            )
        if self.focal is not None and not 0.2 <= self.focal <= 50:
            raise UserError(
                f"focal: expected 0.2 to 50 times the picture's long side, got {self.focal}"
            )
        if self.tracking not in TRACKING:
            raise UserError(
                f"tracking: expected one of {', '.join(TRACKING)}, got {self.tracking!r}"
            )
        if not 0 < self.test_fraction < 1:
            raise UserError(
                f"test_fraction: expected a part between 0 and 1, got {self.test_fraction}"
            )


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
    video: Path,
    root: Path,
    options: PreprocessConfig = PreprocessConfig(),
    *,
    device: str = "cpu",
    weights: Path | None = None,
    download: bool = True,
    progress: bool = True,
    limits: Limits = Limits(),
    purpose: str = "avatar",
) -> Capture:
    """Makes the capture of a video in ``root``, or takes up work that was begun there, or returns
    it if finished.

    device: where networks and picture tracking run. weights, download: where weights may come from
    (``likeness.preprocess.weights``). limits: what the video must keep to; no part of what makes a
    capture. purpose: a name in ``quality.PURPOSES``, by which advice on the next video is logged;
    the report has what an avatar needs. The stages: landmarks, tracking, frames with mattes,
    quality, picture tracking; the manifest comes last. Work files lie in ``root/work``. Raises
    UnusableVideo for videos that cannot be used, other UserErrors when ``root`` holds something
    else or cannot be written.
    """
    return _build(
        _Job.of(Path(video), options, device, weights, download, progress, limits, purpose),
        Path(root),
    )


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be done. ``key`` names the result: by the video's content, the settings, the
    pipeline's version."""

    info: VideoInfo
    options: PreprocessConfig
    matter: MattingModel
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
        device: str = "cpu",
        weights: Path | None = None,
        download: bool = True,
        progress: bool = True,
        limits: Limits = Limits(),
        purpose: str = "avatar",
    ) -> _Job:
        info = open_video(video)
        if min(info.width, info.height) < _MIN_PICTURE:
            raise UnusableVideo(
                "picture too small",
                f"{video}: its picture has {info.width}x{info.height} pixels; expected at least {_MIN_PICTURE} on each "
                "side, and a face that fills a good part of it",
            )
        matter, note = _choose_matter(options.matting, device, weights, download)
        settings = {**dataclasses.asdict(options), "matting": matter.name}
        key = cache.source_hash(video, settings)
        return cls(info, options, matter, note, device, progress, limits, purpose, key)


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
                lambda path, found: found.save(path),
            )
        with blamed_on_damage(info, scanned):
            return _made_of(scanned, job, root, work)


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
        return _given_up(root)
    if capture.source_hash != job.key:
        raise UserError(
            f"{root}: holds the capture of another video or of other settings, or of an older version; choose "
            "another folder"
        )
    if damaged := [path for path in FrameFiles(root).present() if not is_whole_png(path)]:
        _log.warning(
            "%s: damaged, with %d others; they are made anew", damaged[0], len(damaged) - 1
        )
        return _given_up(root)
    check(job.info.path, of_report(capture.report), job.limits)
    return capture


def _given_up(root: Path) -> None:
    """Makes a damaged capture one that is unfinished."""
    # may have been removed; without one, pictures are somebody else's
    (root / "work").mkdir(exist_ok=True)
    (root / MANIFEST).unlink()


def _made_of(scanned: Scan, job: _Job, root: Path, work: Work) -> Capture:
    """The stages after the first look at a video."""
    import numpy as np

    info, options = job.info, job.options
    selection = _usable(info, scanned, options)
    eye_distance = float(np.median(eye_distances(selection.points)))
    cuts = len(selection.cut_times_s)
    check(
        info.path,
        {"crowded": crowded(scanned), "cuts": cuts, "eye_distance": eye_distance},
        job.limits,
    )
    crop = choose_crop(selection.points, info.width, info.height)
    focal_px, focal_source = focal_pixels(info, options.focal)
    camera = crop_camera(info, crop, focal_px, options.size)
    with work.stage("tracking"):
        model = _head_model(options.head_model)
        tracking = _tracking(selection, scanned, crop, camera, model, options, work)
    keep = _followed(info.path, tracking, selection, options)
    check(info.path, {"residual": float(np.median(tracking.residual_percent[keep]))}, job.limits)
    with work.stage("frames"):
        indices = scanned.index[selection.frames[keep]].tolist()
        files = FrameFiles(root)
        work.frames(files)
        write_frames(info, indices, crop, options.size, job.matter, files, job.progress)
    with work.stage("quality"):
        capture = assemble(
            root,
            job.key,
            info,
            options.size,
            scanned,
            selection,
            keep,
            crop,
            camera,
            tracking,
            model,
            options.test_fraction,
        )
    if options.tracking == "pictures":
        from likeness.preprocess.photometric import refine

        with work.stage("picture tracking"):
            capture = refine(
                capture,
                options.photometric,
                device=job.device,
                checkpoint=work.checkpoint("picture_tracking.safetensors"),
                progress=job.progress,
            )
            capture = assess(capture, tracking.eye_distance_px)
    capture.report["camera"].update(
        source=focal_source, focal_long_sides=round(focal_px / max(info.width, info.height), 4)
    )
    capture.report["matting"] = {"name": job.matter.name, "note": job.matting_note}
    capture.report["seconds"] = work.seconds()
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
    seen, least = len(scanned.index), options.min_frames
    if seen < least:
        raise UnusableVideo(
            "too short",
            f"{info.path}: has {_frames(seen)} to look at; at least {least} are needed: "
            "film some seconds (one to two minutes are best), or widen --start and --end",
        )
    if float(scanned.luminance.max()) < _BLACK:
        message = (
            f"{info.path}: all {_frames(seen)} are black; check lens and light, and film again"
        )
        raise UnusableVideo("black", message)
    selection = select(scanned, info.width, info.height, options.selection)
    if len(scanned.points) == 0:
        raise UnusableVideo(
            "no face",
            f"{info.path}: no face was found in any of its {_frames(seen)}; expected one person's head, "
            "large, facing the camera and well lit",
        )
    if len(selection.frames) < least:
        raise UnusableVideo(
            max(selection.dropped, key=selection.dropped.__getitem__),
            f"{info.path}: only {len(selection.frames)} of {_frames(seen)} can be used "
            f"({quality.describe(selection.dropped)}); at least {least} are needed: film one head, in focus, uncut",
        )
    return thin(selection, least, options.max_frames)


def _frames(number: int) -> str:
    return f"{number} frame" + "s" * (number != 1)


def _tracking(
    selection: Selection,
    scanned: Scan,
    crop: Crop,
    camera: Camera,
    model: HeadModel,
    options: PreprocessConfig,
    work: Work,
) -> Tracking:
    import torch

    from likeness.preprocess.tracking import track

    times = scanned.time_s[selection.frames]
    return work.result(
        "tracking.npz",
        lambda path: load_tracking(path, len(times)),
        lambda: track(
            torch.from_numpy(crop.points(selection.points, options.size)),
            torch.from_numpy(selection.confidence),
            camera.K,
            model,
            frame_rate(times),
            options.tracker,
            progress=work.progress,
            times=torch.from_numpy(times),
        ),
        save_tracking,
    )


def _followed(
    video: Path, tracking: Tracking, selection: Selection, options: PreprocessConfig
) -> np.ndarray:
    """Positions [T'] of the frames whose residual says that the head was followed. UserError when
    too few are left."""
    import numpy as np

    percent = tracking.residual_percent.numpy()
    keep = np.flatnonzero(percent <= max(_LOST[0], _LOST[1] * float(np.median(percent))))
    if len(keep) < options.min_frames:
        raise UnusableVideo(
            "head could not be followed",
            f"{video}: the head could be followed in only {len(keep)} of {len(percent)} frames; at least "
            f"{options.min_frames} are needed: film the face larger, in focus, with nothing before it",
        )
    if len(keep) < len(percent):
        selection.dropped["head could not be followed"] = len(percent) - len(keep)
    return keep


def _choose_matter(
    name: str, device: str, folder: Path | None, download: bool
) -> tuple[MattingModel, str]:
    from likeness.preprocess import weights
    from likeness.preprocess.matting import choose

    before = weights.offline
    weights.offline = before or not download
    try:
        return choose(name, device, folder)
    finally:
        weights.offline = before
