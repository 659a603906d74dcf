"""Writes shots as a film, as one image, or as a folder of images that an interrupted program
resumes.

A folder holds ``NNNNNN.png`` (with the angles behind the number where a moment has several
cameras), the folders ``depth/`` and ``normals/`` with a ``.png`` and a ``.npy`` of each where they
were asked for, and ``views.json``, whose key identifies the views: a folder is resumed only with
the very same ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from likeness.playback.films import SUFFIXES, check_film, open_film
from likeness.playback.views.rendering import Channel, Shot, ViewRenderer
from likeness.playback.views.sheets import sheet
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, check_writable, write_json
from likeness.scene.image_files import save_rgb
from likeness.scene.reading import read_json

_MANIFEST, _FORMAT, _FORMAT_VERSION = "views.json", "views", 1
_OURS = re.compile(r"\d{6}(_yaw[+-][\d.e+-]+_pitch[+-][\d.e+-]+)?\.(png|npy)")
_SOURCES = ("scene", "renderers", "fitting/avatars", "playback")


def check_output(path: Path, shots: list[Shot], transparent: bool, overwrite: bool) -> None:
    """Raises UserError when the shots cannot be written there, before anything is rendered."""
    if path.suffix.lower() in SUFFIXES:
        check_film(path, transparent)
    elif path.suffix.lower() == ".png":
        if len(shots) > 1:
            raise UserError(
                f"{path}: one image, but {len(shots)} moments; give a film, or a folder (no ending)"
            )
    elif path.suffix:
        raise UserError(
            f"{path}: expected a film ({', '.join(SUFFIXES)}), one .png, or a folder (no ending)"
        )
    if path.suffix and path.is_dir():
        raise UserError(f"{path}: is a folder; choose another --out")
    if path.suffix and path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another --out, or give --overwrite")
    check_writable(path)


def write_views(
    path: Path,
    shots: list[Shot],
    renderer: ViewRenderer,
    fps: float,
    *,
    overwrite: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Path]:
    """Renders shots into a film, an image or a folder, by the path's ending; returns what was
    written.

    progress: wraps the shots. Raises UserError as ``check_output`` does, and for a folder that
        holds other things.
    """
    check_output(path, shots, renderer.background.transparent, overwrite)
    if not path.suffix:
        return _write_folder(path, shots, renderer, fps, overwrite, progress)
    paths = [
        path if name == "colour" else path.with_stem(f"{path.stem}_{name}")
        for name in renderer.channels
    ]
    for other in paths[1:]:
        check_output(other, shots, False, overwrite)
    if path.suffix.lower() == ".png":
        for channels in (_tiled(shot, renderer) for shot in progress(shots)):
            for target, channel in zip(paths, channels.values()):
                save_rgb(target, channel.image)
                if channel.values is not None:
                    _write_npy(target.with_suffix(".npy"), channel.values)
        return paths
    with contextlib.ExitStack() as stack:
        films = []
        for name, target in zip(renderer.channels, paths):
            alpha = name == "colour" and renderer.background.transparent
            films.append(stack.enter_context(open_film(target, fps, alpha=alpha)))
        for shot in progress(shots):
            for film, channel in zip(films, _tiled(shot, renderer).values()):
                film.write(channel.image)
    return paths


def _tiled(shot: Shot, renderer: ViewRenderer) -> dict[str, Channel]:
    """The images of all cameras of a shot as one per channel; numbers as [cameras, H, W, ...] if
    several."""
    views = [renderer.render(shot.state, camera) for camera in shot.cameras]
    if len(views) == 1:
        return views[0]
    columns = _columns(shot)
    tiled = {}
    for name in views[0]:
        parts = [view[name] for view in views]
        rows = [[p.image for p in parts[i : i + columns]] for i in range(0, len(parts), columns)]
        labels = [shot.labels[i : i + columns] for i in range(0, len(parts), columns)]
        values = [part.values for part in parts if part.values is not None]
        tiled[name] = Channel(sheet(rows, labels), np.stack(values) if values else None)
    return tiled


def _columns(shot: Shot) -> int:
    """As many as the first row of a grid has, else so many that the sheet is about square."""
    pitch = shot.labels[0].partition("pitch")[2]
    same = [label.partition("pitch")[2] == pitch for label in shot.labels]
    if False in same:
        return same.index(False)
    return min(len(same), max(5, math.ceil(math.sqrt(len(same)))))


def _write_folder(
    folder: Path,
    shots: list[Shot],
    renderer: ViewRenderer,
    fps: float,
    overwrite: bool,
    progress: Callable,
) -> list[Path]:
    manifest = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "key": _key(shots, renderer),
        "fps": fps,
        "moments": len(shots),
        "channels": list(renderer.channels),
    }
    _prepare(folder, manifest, overwrite)
    for number, shot in enumerate(progress(shots)):
        for camera, label in zip(shot.cameras, shot.labels):
            paths = list(_files(folder, number, label, renderer.channels))
            if all(path.is_file() for _, path in paths):
                continue
            channels = renderer.render(shot.state, camera)
            for name, path in paths:
                if path.suffix == ".png":
                    save_rgb(path, channels[name].image)
                elif (values := channels[name].values) is not None:
                    _write_npy(path, values)
    return [folder]


def _files(
    folder: Path, number: int, label: str, channels: Iterable[str]
) -> Iterator[tuple[str, Path]]:
    """The channels and files of one image."""
    angles = label.replace("yaw ", "_yaw").replace(" pitch ", "_pitch")
    stem = f"{number:06d}{angles}"
    for name in channels:
        if name == "colour":
            yield name, folder / f"{stem}.png"
        else:
            yield from ((name, folder / name / f"{stem}{suffix}") for suffix in (".png", ".npy"))


def _prepare(folder: Path, manifest: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder ours, or finds that it holds the same views."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MANIFEST).is_file():
            raise UserError(
                f"{folder}: holds other things; choose another --out, an empty or a new one"
            )
        existing = read_json(folder / _MANIFEST, dict[str, Any], "list of views")
        if existing.get("key") == manifest["key"]:
            return
        if not overwrite:
            raise UserError(
                f"{folder}: holds other views; choose another --out, or give --overwrite"
            )
        for place in (folder, folder / "depth", folder / "normals"):
            for path in place.glob("*") if place.is_dir() else ():
                if path.is_file() and _OURS.fullmatch(path.name):
                    path.unlink()
    write_json(folder / _MANIFEST, manifest)


def _key(shots: list[Shot], renderer: ViewRenderer) -> str:
    """A hash of all that decides the images: avatar, states, cameras, background, renderer and
    programs."""
    settings = (
        _FORMAT_VERSION,
        renderer.channels,
        renderer.extrapolate,
        renderer.player.renderer.name,
        renderer.player.refines,
    )
    digest = hashlib.sha256(repr(settings).encode())
    player = renderer.player
    refiner = {
        name: t for name, t in player.bundle.tensors().items() if name.startswith("refiner.")
    }
    for name, tensor in sorted((player.bundle.avatar.state_dict() | refiner).items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    for shot in shots:
        for field in dataclasses.fields(shot.state):
            digest.update(getattr(shot.state, field.name).cpu().numpy().tobytes())
        for camera, label in zip(shot.cameras, shot.labels):
            digest.update(camera.K.numpy().tobytes() + camera.T_cam_world.numpy().tobytes())
            digest.update(f"{camera.width} {camera.height} {label}".encode())
    first = shots[0].cameras[0]
    if not renderer.background.transparent:
        digest.update(renderer.background.tensor(first.width, first.height).numpy().tobytes())
    root = Path(__file__).resolve().parents[2]
    sources = {path for folder in _SOURCES for path in (root / folder).rglob("*.py")}
    for source in sorted(sources | {root / "renderers" / "screen_refiner.py"}):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _write_npy(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
