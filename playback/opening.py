"""Opening an avatar by the folder that a person has: a run, or the bundle alone."""

from __future__ import annotations

from pathlib import Path

from fitting.bundle import MANIFEST, AvatarBundle
from scene.errors import UserError


def open_avatar(path: Path) -> AvatarBundle:
    """The avatar in a run directory, or in a bundle's folder. Raises UserError when there is none."""
    path = Path(path)
    for folder in (path / "bundle", path):
        if (folder / MANIFEST).is_file():
            return AvatarBundle.load(folder)
    raise UserError(f"{path}: neither a run with an avatar (no bundle/{MANIFEST}) nor an avatar (no {MANIFEST})")
