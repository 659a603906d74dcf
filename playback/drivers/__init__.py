"""Drivers: whatever moves an avatar. A kind is one file and one line in ``DRIVERS``.

Video and webcam need preprocessing (landmarks, tracking), which they import when one is opened, so
that all other kinds work from a bundle alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.playback.drivers import arkit_csv, capture, states, video, webcam
from likeness.playback.drivers.base import (
    DriverKind,
    DriverOptions,
    LiveDriver,
    LiveFrame,
    Recording,
)
from likeness.scene.errors import UserError

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle

DRIVERS: dict[str, DriverKind] = {
    "run": DriverKind(capture.load_run, capture.is_run),
    "capture": DriverKind(capture.load_capture, capture.is_capture),
    "states": DriverKind(states.load, states.recognizes, reads_fps=True),
    "arkit_csv": DriverKind(arkit_csv.load, arkit_csv.recognizes, reads_fps=True),
    "video": DriverKind(video.load, video.recognizes),
    "webcam": DriverKind(webcam.load),
}
"""Kinds by name, in the order in which a source is tried."""


def open_driver(
    source: str | Path,
    bundle: AvatarBundle,
    options: DriverOptions = DriverOptions(),
    kind: str | None = None,
) -> Any:
    """A ``Recording`` for an avatar, or of a webcam a ``LiveDriver``. kind: a name in DRIVERS; by
    the source's content if None.

    Raises UserError when the source is missing, of no known kind, or damaged.
    """
    kind = kind or kind_of(source)
    if kind not in DRIVERS:
        raise UserError(f"--kind: no driver of kind {kind!r}; known: {', '.join(DRIVERS)}")
    if options.fps is not None and not DRIVERS[kind].reads_fps:
        raise UserError(f"--fps: {source} is a {kind}, which has a rate of its own; leave it out")
    return DRIVERS[kind].load(str(source), bundle, options)


def kind_of(source: str | Path) -> str:
    """The kind of a driver by its content: the manifest of a folder, the first bytes or header of a
    file.

    A webcam is never guessed. Raises UserError when the source is missing or of no known kind.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"{source}: no such file or folder; give a video, a run, a capture, an ARKit CSV or "
            "states"
        )
    try:
        for name, kind in DRIVERS.items():
            if kind.recognizes(path):
                return name
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if path.is_dir():
        raise UserError(
            f"{path}: a folder that is neither a run nor a capture nor an avatar (no manifest of "
            "ours in it); give a run directory, or a file"
        )
    raise UserError(
        f"{path}: not recognised as a driver; expected a video, a run, a capture, an ARKit CSV "
        "(header Timecode,BlendShapeCount,EyeBlinkLeft,...) or states (.npz); if it is one, name "
        f"it with --kind ({', '.join(DRIVERS)})"
    )


__all__ = [
    "DRIVERS",
    "DriverKind",
    "DriverOptions",
    "LiveDriver",
    "LiveFrame",
    "Recording",
    "kind_of",
    "open_driver",
]
