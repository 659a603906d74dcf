"""The captures that fits are compared on: of each clip one by photometric tracking and one by
landmarks, else equal."""

from __future__ import annotations

import dataclasses
import filecmp
from collections.abc import Sequence
from pathlib import Path

from likeness.scene.errors import UserError

TRACKING = {"photometric": "pictures", "landmarks": "landmarks"}
"""What the captures of a clip are called here, and what preprocessing calls their tracking."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One person's video. captures: folder of its capture by the way of tracking, a name in
    TRACKING."""

    name: str
    captures: dict[str, Path]


def prepared(videos: Sequence[Path], folder: Path, weights: Path | None = None) -> list[Clip]:
    """The captures of videos in ``folder``, called <video>-<tracking>, made there unless they
    are."""
    import torch

    from likeness.preprocess.pipeline import PreprocessConfig, build_capture

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = [
        Clip(v.stem, {tracking: folder / f"{v.stem}-{tracking}" for tracking in TRACKING})
        for v in videos
    ]
    _check_names(clips)
    for video, clip in zip(videos, clips):
        for tracking, root in clip.captures.items():
            options = PreprocessConfig(tracking=TRACKING[tracking])
            build_capture(video, root, options, device=device, weights=weights, download=False)
        check(clip)
    return clips


def given(photometric: Sequence[Path], landmarks: Sequence[Path]) -> list[Clip]:
    """Clips of ready captures, the second ones of the same videos in the same order, or none of
    them."""
    if landmarks and len(landmarks) != len(photometric):
        raise UserError(
            f"--landmark-captures: expected one for each of the {len(photometric)} --captures, in "
            f"the same order, got {len(landmarks)}"
        )
    clips = [Clip(_name(root), {"photometric": root}) for root in photometric]
    for clip, root in zip(clips, landmarks):
        clip.captures["landmarks"] = root
    _check_names(clips)
    for clip in clips:
        check(clip)
    return clips


def check(clip: Clip) -> None:
    """Raises UserError unless the captures are tracked as said, and what fits are measured on is
    the same in both.

    The same are: image size, names and times of all frames, which of them are held out; of the
    held-out ones the files of images and mattes, and the landmarks, by which face, mouth and eyes
    are found.
    """
    import torch

    from likeness.scene.capture import Capture

    captures = {tracking: Capture.load(root) for tracking, root in clip.captures.items()}
    for tracking, capture in captures.items():
        own = "photometric" if "photometric" in capture.report else "landmarks"
        if own != tracking:
            raise UserError(
                f"{capture.root}: its tracking is {own}, expected a capture whose tracking is "
                f"{tracking}"
            )
        # Those of a version that did not track it would do without, and nobody would be told.
        if tracking == "photometric" and "sway_mm" not in capture.report["photometric"]:
            raise UserError(
                f"{capture.root}: tracked by an earlier version, without secondary motion (sway); "
                "preprocess the video again"
            )
    if len(captures) == 1:
        return
    one, other = captures.values()
    _same(one, other, "picture size", [[c.cameras.width, c.cameras.height] for c in (one, other)])
    for part in ("train", "test"):
        _same(
            one,
            other,
            f"{part} frames",
            [[_label(c, index) for index in getattr(c, part)] for c in (one, other)],
        )
    for a, b in zip(one.test, other.test):
        frames = one.frames[a], other.frames[b]
        for files in ("image_path", "matte_path"):
            if not filecmp.cmp(*(getattr(frame, files) for frame in frames), shallow=False):
                raise _different(one, other, f"{getattr(frames[0], files).relative_to(one.root)}")
        if not torch.equal(frames[0].landmarks, frames[1].landmarks):
            raise _different(one, other, f"the landmarks of frame {_label(one, a)}")


def _label(capture, index: int) -> str:
    frame = capture.frames[index]
    return f"{frame.image_path.stem} at {frame.time_s:g} s"


def _same(one, other, what: str, values: list[list]) -> None:
    """Raises UserError with the first difference of two lists."""
    if len(values[0]) != len(values[1]):
        raise _different(one, other, f"{what}: {len(values[0])} against {len(values[1])}")
    for a, b in zip(*values):
        if a != b:
            raise _different(one, other, f"{what}: {a} against {b}")


def _different(one, other, what: str) -> UserError:
    return UserError(
        f"{one.root} and {other.root} are not of the same frames ({what}); make both from one "
        "video with the same settings and the same version of the program, as --videos does"
    )


def _name(root: Path) -> str:
    """What a capture's clip is called: by its folder, or the run's in which it lies."""
    root = root.absolute()
    name = root.parent.name if root.name == "capture" else root.name
    return name.removesuffix("-photometric").removesuffix("-pictures")


def _check_names(clips: Sequence[Clip]) -> None:
    names = [clip.name for clip in clips]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two clips are called {name}; give files or folders of different names"
            )
