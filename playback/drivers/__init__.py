"""Drivers: whatever moves an avatar, as an iterable of head states. A kind is one file and one line
in ``DRIVERS``.

Video and webcam need preprocessing (landmarks, tracking); their modules are imported when one is
opened, so that all other kinds work from a bundle without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.playback.drivers.base import Driver, DriverOptions, Recording
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle

_RATE_GIVEN = ("arkit_csv", "states")  # kinds that read DriverOptions.fps
_VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".m4v",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".ts",
    ".wmv",
)


def _run(source: str, bundle: AvatarBundle, options: DriverOptions) -> Recording:
    from likeness.playback.drivers.capture import load_run

    return load_run(Path(source), bundle, options)


def _capture(source: str, bundle: AvatarBundle, options: DriverOptions) -> Recording:
    from likeness.playback.drivers.capture import load_capture

    return load_capture(Path(source), bundle, options)


def _arkit_csv(source: str, bundle: AvatarBundle, options: DriverOptions) -> Recording:
    from likeness.playback.drivers.arkit_csv import load

    return load(Path(source), bundle, options)


def _states(source: str, bundle: AvatarBundle, options: DriverOptions) -> Recording:
    from likeness.playback.drivers.states import load

    return load(Path(source), bundle, options)


def _video(source: str, bundle: AvatarBundle, options: DriverOptions) -> Recording:
    from likeness.playback.drivers.video import load

    return load(Path(source), bundle, options)


def _webcam(source: str, bundle: AvatarBundle, options: DriverOptions) -> Driver:
    from likeness.playback.drivers.webcam import Webcam

    return Webcam(source, bundle)


DRIVERS: dict[str, Callable[[str, AvatarBundle, DriverOptions], Driver]] = {
    "run": _run,
    "capture": _capture,
    "arkit_csv": _arkit_csv,
    "states": _states,
    "video": _video,
    "webcam": _webcam,
}


def open_driver(
    source: str | Path,
    bundle: AvatarBundle,
    options: DriverOptions = DriverOptions(),
    kind: str | None = None,
) -> Driver:
    """A driver for an avatar; ``kind``, a name in DRIVERS, is found by the source's content if
    None.

    Raises UserError when the source is missing, of no known kind, or damaged.
    """
    kind = kind or kind_of(source)
    if kind not in DRIVERS:
        raise UserError(f"--kind: no driver of kind {kind!r}; known: {', '.join(DRIVERS)}")
    if options.fps is not None and kind not in _RATE_GIVEN:
        raise UserError(f"--fps: {source} is a {kind}, which has a rate of its own; leave it out")
    return DRIVERS[kind](str(source), bundle, options)


def kind_of(source: str | Path) -> str:
    """The kind of a driver by its content: the manifest of a folder, the first bytes or header of a
    file.

    A webcam is never guessed. Raises UserError when the source is missing or of no known kind.
    """
    from likeness.playback.drivers import arkit_csv, capture, states

    path = Path(source)
    if not path.exists():
        raise UserError(
            f"{source}: no such file or folder; give a video, a run, a capture, an ARKit CSV or states"
        )
    if path.is_dir():
        if capture.recognizes_run(path):
            return "run"
        if capture.recognizes_capture(path):
            return "capture"
        raise UserError(
            f"{path}: a folder that is neither a run nor a capture nor an avatar (no manifest of ours in it); give "
            "one that fit_subject.py made, or a file"
        )
    try:
        if states.recognizes(path):
            return "states"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if arkit_csv.recognizes(path):
        return "arkit_csv"
    if _looks_like_video(path):
        return "video"
    raise UserError(
        f"{path}: not recognised as a driver; expected a video, a run, a capture, an ARKit CSV (header Timecode,"
        f"BlendShapeCount,EyeBlinkLeft,...) or states (.npz); if it is one, name it with --kind ({', '.join(DRIVERS)})"
    )


def _looks_like_video(path: Path) -> bool:
    """By the first bytes of the containers, or by the name, so that a damaged video gets the video
    reader's message."""
    with path.open("rb") as file:
        head = file.read(16)
    containers = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") or head[:4] in (
        b"\x1aE\xdf\xa3",
        b"\0\0\1\xba",
    )
    return (
        containers
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or path.suffix.lower() in _VIDEO_SUFFIXES
    )


__all__ = ["DRIVERS", "Driver", "DriverOptions", "Recording", "kind_of", "open_driver"]
