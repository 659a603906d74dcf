"""Finds the avatar that a person names: a run directory or a bundle."""

from __future__ import annotations

from pathlib import Path

from fitting.bundle import MANIFEST, AvatarBundle
from scene.errors import UserError


def bundle_folder(path: Path) -> Path:
    """The bundle's folder of a run directory, or of a bundle. Raises UserError when it is neither."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a run directory that fit_subject.py made, or a bundle")
    if (path / "run.json").is_file():
        if not (path / "bundle" / MANIFEST).is_file():
            raise UserError(f"{path}: holds no avatar yet; finish the fit with: fit_subject.py --resume {path}")
        return path / "bundle"
    return path


def open_bundle(path: Path) -> AvatarBundle:
    """The avatar of a run directory or a bundle's folder. Raises UserError when there is none or it is damaged."""
    return AvatarBundle.load(bundle_folder(path))
