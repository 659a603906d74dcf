"""What the formats of Gaussian clouds share: one state in a file, or a sequence as a folder of
numbered files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from likeness.export.base import ExportOptions, without_refiner
from likeness.export.posing import posed_cloud
from likeness.fitting.bundle import AvatarBundle
from likeness.scene.cloud import GaussianCloud
from likeness.scene.files import check_absent, new_folder
from likeness.scene.head_state import HeadState


def write_clouds(
    bundle: AvatarBundle,
    states: HeadState,
    out: Path,
    options: ExportOptions,
    axes: str,
    suffix: str,
    write: Callable[[Path, GaussianCloud], None],
) -> dict[str, Any]:
    """Writes the avatar at states [T] by ``write``: the first one to ``out``, or all of them into a
    folder where ``options.moving``. Returns facts, with the ``files``."""
    bundle, facts = without_refiner(bundle, suffix)
    anchor = options.anchor or "head"
    check_absent(out)
    if options.moving:
        with new_folder(out) as folder:
            for index in tqdm(
                range(len(states)), "exporting", unit="file", disable=not options.progress
            ):
                cloud = posed_cloud(bundle, states[index], axes, anchor)
                write(folder / f"{index:06d}{suffix}", cloud)
        files = sorted(out.iterdir())
    else:
        write(out, posed_cloud(bundle, states[0], axes, anchor))
        files = [out]
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "files": files, "axes": axes, "anchor": anchor, **facts}
