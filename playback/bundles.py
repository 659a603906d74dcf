"""Finding the avatar that a person names: a run or a bundle."""

from __future__ import annotations

from pathlib import Path

from likeness.fitting.bundle import MANIFEST, AvatarBundle
from likeness.scene.errors import UserError


def bundle_folder(path: Path) -> Path:
    """The folder of the bundle of a run directory, or of the bundle that ``path`` is itself.

    Raises UserError when it is neither.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a run, or the bundle in one")
    for folder in (path, path / "bundle"):
        # that would be a capture
        if (folder / MANIFEST).is_file() and not (folder / "states.safetensors").is_file():
            return folder
    remedy = "give a run or its bundle"
    if (path / "run.json").is_file():
        remedy = f"its fit has not finished: resume it with `likeness fit --resume {path}"
    raise UserError(f"{path}: no avatar in it (no {MANIFEST}, no bundle/{MANIFEST}); {remedy}")


def load_bundle(path: Path) -> AvatarBundle:
    """The avatar of a run directory or of a bundle's folder. Raises UserError when there is none,
    or a damaged one."""
    return AvatarBundle.load(bundle_folder(path))
