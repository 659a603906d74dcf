"""Keeps every k-th frame of a capture: python -m tools.thin_capture CAPTURE --every 5 --out DIR

For carrying a capture to a machine with little room, and for quick fits. The split stays: every
k-th of the training frames is kept and every k-th of the test frames, so that no test frame becomes
one to train on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.cli import command_line

if TYPE_CHECKING:
    from likeness.scene.capture import Capture


def thin(capture: Capture, every: int, folder: Path) -> Capture:
    """Writes every ``every``-th training and test frame of a capture as a capture of its own.

    folder: a new one. Frames are renumbered, their files keep their names. Raises UserError where
    the folder is there already, cannot be written, or a frame of the capture cannot be read.
    """
    from likeness.scene.capture import Capture, TrackedFrames
    from likeness.scene.errors import UserError
    from likeness.scene.files import new_folder

    kept = sorted((*capture.train[::every], *capture.test[::every]))
    place = {frame: index for index, frame in enumerate(kept)}
    with new_folder(folder) as root:
        frames = []
        for index in kept:
            frame, paths = capture.frames[index], {}
            for field in ("image_path", "matte_path"):
                source = getattr(frame, field)
                paths[field] = root / source.relative_to(capture.root)
                paths[field].parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(source, paths[field])
                except FileNotFoundError:
                    raise UserError(
                        f"{source}: missing from the capture; preprocess the video again"
                    ) from None
            frames.append(dataclasses.replace(frame, **paths))
        thinned = dataclasses.replace(
            capture,
            root=root,
            frames=TrackedFrames.stack(frames),
            fps=capture.fps / every,
            train=tuple(place[frame] for frame in capture.train[::every]),
            test=tuple(place[frame] for frame in capture.test[::every]),
            # Another capture than the whole one: whoever goes on with a fit must not mistake it for
            # that.
            source_hash=hashlib.sha256(f"{capture.source_hash} every {every}".encode()).hexdigest(),
        )
        thinned.save()
    return Capture.load(folder)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "capture", type=Path, metavar="CAPTURE", help="folder of a prepared capture"
    )
    parser.add_argument(
        "--every",
        type=command_line.positive_int,
        default=5,
        metavar="K",
        help="keep every K-th frame (default: 5)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write, which must be new"
    )
    args = parser.parse_args()
    from likeness.scene.capture import Capture
    from likeness.scene.files import check_writable

    check_writable(args.out)
    whole = Capture.load(args.capture)
    thinned = thin(whole, args.every, args.out)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(
        f"{args.out}: {len(thinned.frames)} of {len(whole.frames)} frames "
        f"({len(thinned.train)} to train on, {len(thinned.test)} to test), {size / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
