"""Captures by what they were made of: found again, built once at a time, linked into runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from likeness.scene.capture import MANIFEST, Capture
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, held, storage_error

PIPELINE_VERSION = 3
"""Raise it with every change after which preprocessing would make a better or another capture of
the same video with
the same settings, or could not read the work files of before: everybody's captures are then made
anew, once. Leave it for whatever changes nothing in a capture, such as speed, messages and
comments."""


def source_hash(video: Path, settings: Any) -> str:
    """SHA-256 of a video's bytes, of plain settings (JSON values), and of PIPELINE_VERSION.

    The last so that a newer pipeline never takes up the work of an older one.
    """
    digest = hashlib.sha256(
        json.dumps([PIPELINE_VERSION, settings], sort_keys=True, default=str).encode()
    )
    digest.update(_file_hash(video))
    return digest.hexdigest()


def _file_hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def locked(root: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a capture's folder (made if need be) to this process while it is made; waits for
    others."""
    return held(
        Path(root) / ".lock", f"{root}: another process is preprocessing this video", wait=True
    )


def link_capture(source: Path, target: Path) -> Capture:
    """Puts a finished capture into another folder, by hard links where the file system has them,
    else by copying.

    The manifest comes last. A target that already holds this capture is returned as it is; raises
    UserError when it holds another one.
    """
    source, target = Path(source), Path(target)
    capture = Capture.load(source)
    if (target / MANIFEST).is_file():
        present = Capture.load(target)
        if present.source_hash != capture.source_hash:
            raise UserError(
                f"{target}: holds another capture already; choose a folder that does not exist yet"
            )
        return present
    names = [
        path.relative_to(source)
        for frame in capture.frames
        for path in (frame.image_path, frame.matte_path)
    ]
    for folder in {name.parent for name in names}:
        try:
            (target / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, target) from error
    for name in names:
        _link(source / name, target / name)
    moved = dataclasses.replace(
        capture.frames,
        image_paths=tuple(target / p.relative_to(source) for p in capture.frames.image_paths),
        matte_paths=tuple(target / p.relative_to(source) for p in capture.frames.matte_paths),
    )
    capture = dataclasses.replace(capture, root=target, frames=moved)
    capture.save()
    return capture


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
