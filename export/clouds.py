"""Formats that hold Gaussian clouds: one state in a file, or a sequence as a folder of numbered
files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from likeness.export.fidelity import agreement
from likeness.export.formats import ExportOptions
from likeness.export.ply import write_ply
from likeness.export.posing import T_file_head, moved, posed_cloud
from likeness.export.spz import read_spz, write_spz
from likeness.fitting.bundle import AvatarBundle
from likeness.renderers import create
from likeness.scene.cloud import GaussianCloud
from likeness.scene.files import check_absent, new_folder
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import invert_transform


def write_ply_files(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """An Exporter. A .ply holds 32-bit floats: there is nothing to lose."""
    facts = _write(bundle, states, out, options, options.axes or "y-down", ".ply", write_ply)
    return {**facts, "psnr": None}


def write_spz_files(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """An Exporter. The axes are the format's. The first file is read back and compared with the
    avatar."""
    version = options.spz_version or 3

    def write(path: Path, cloud: GaussianCloud) -> None:
        write_spz(path, cloud, version)

    facts = _write(bundle, states, out, options, "y-up", ".spz", write)
    first = out / _numbered(0, ".spz") if options.moving else out
    return {
        **facts,
        "psnr": _agreement(bundle, states[0], read_spz(first), options.anchor or "head"),
    }


def _write(
    bundle: AvatarBundle,
    states: HeadState,
    out: Path,
    options: ExportOptions,
    axes: str,
    suffix: str,
    write: Callable[[Path, GaussianCloud], None],
) -> dict[str, Any]:
    anchor = options.anchor or "head"
    if not options.moving:
        check_absent(out)
        write(out, posed_cloud(bundle, states[0], axes, anchor))
        files = [out]
    else:
        with new_folder(out) as folder:
            shown = tqdm(
                range(len(states)),
                "exporting",
                unit="file",
                disable=not options.progress,
                leave=False,
            )
            for index in shown:
                write(
                    folder / _numbered(index, suffix),
                    posed_cloud(bundle, states[index], axes, anchor),
                )
        files = sorted(out.iterdir())
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "files": len(files), "axes": axes, "anchor": anchor}


def _numbered(index: int, suffix: str) -> str:
    return f"{index:06d}{suffix}"


@torch.no_grad()
def _agreement(bundle: AvatarBundle, state: HeadState, cloud: GaussianCloud, anchor: str) -> float:
    """PSNR of a cloud that was read back, by the axes of the head frame, against the avatar's
    picture."""
    renderer, view = create("cpu"), bundle.default_camera.in_frame(state.T_world_head)
    back = moved(cloud, invert_transform(T_file_head(state, "y-up", anchor)))
    found, expected = (
        renderer.render(shown, view).over(torch.ones(3)).clamp(0, 1)
        for shown in (back, bundle.avatar(bundle.tuned(state), view.center))
    )
    return agreement(found, expected)
