"""What arrives of a driver: range and correlation of its expressions in the avatar's images.

    python -m benchmarks.transfer --captures a b c --iterations 600
    python -m benchmarks.transfer --captures a b --avatars runs/a runs/b

Avatars of all captures are fitted into --out, unless they are given, and each is driven by each
other capture as `likeness drive` does it. The same detector of landmarks looks at the driver's
images and at the avatar's. Of lips (opening), mouth (width), lids, brows and gaze, each in units of
the face's own size (lids: of its open eyes): the range between two percentiles, the avatar's over
the driver's (1: it arrives whole), and the correlation; – where the driver hardly moves. closed: of
the frames in which the driver's lips are closed, those in which the avatar's are. flicker:
trembling of landmarks, and of the pixels of the face, over the driver's own, while the driver's
face is calm. identity: 0 where the driven face at rest has its own person's shape, 1 where it is as
far from it as the driver's.

A second table has the same features of the avatar's tracked mesh instead of its images: what is
missing there was lost by the driver's tracking or the transfer, the rest by the avatar.

"self" drives each avatar by its own capture, measured on the frames that no fit has seen: the upper
bound. Finished pairs are kept in --out, so that the same command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import face_measures
from benchmarks.common.face_measures import FEATURES
from benchmarks.common.figures import announced, table
from benchmarks.common.figures import parser as new_parser
from likeness.cli.command_line import positive_int
from likeness.scene.files import write_json

if TYPE_CHECKING:
    from likeness.scene.camera import Camera
    from likeness.scene.capture import Capture
    from likeness.scene.head_state import HeadState

_SHEET, _SHEET_FRAMES = 224, 10  # pixels of a picture in the sheets, columns
_MIN_FRAMES = 8


def parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--captures", nargs="+", type=Path, required=True, metavar="DIR", help="drivers")
    text = "runs or bundles of these captures, in their order [fitted into --out]"
    add("--avatars", nargs="+", type=Path, default=[], metavar="DIR", help=text)
    add("--preset", default="default", help="of the fits [default]")
    add("--iterations", type=positive_int, default=600, metavar="N", help="of each fit [600]")
    add("--frames", type=positive_int, default=200, metavar="N", help="of each driver [200]")
    add("--only", metavar="TEXT", help="pairs whose name contains this")
    add("--out", type=Path, default=Path("runs/transfer"), metavar="DIR", help="[runs/transfer]")
    return parser


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the detector makes of T images. found: [T]. points: [T, 478, 2] pixels. images: [T]."""

    found: np.ndarray
    points: np.ndarray
    images: list[np.ndarray]

    @classmethod
    def of(cls, images: list[np.ndarray]) -> Seen:
        from likeness.preprocess.landmarks import detect

        marks = detect(iter(images), max_faces=1)
        return cls(marks.found, marks.points.astype(np.float64), images)


@dataclasses.dataclass(frozen=True)
class Person:
    """A clip: its name, capture, and the avatar made of it."""

    name: str
    capture: Path
    avatar: Path


def main(words: Sequence[str] | None = None) -> None:
    args = parser().parse_args(words)
    if args.avatars and len(args.avatars) != len(args.captures):
        sys.exit(f"--avatars: expected one for each of the {len(args.captures)} --captures")
    conditions = announced()
    args.out.mkdir(parents=True, exist_ok=True)
    avatars = args.avatars or [fitted(root, args) for root in args.captures]
    people = [
        Person(root.name if root.name != "capture" else root.parent.name, root, avatar)
        for root, avatar in zip(args.captures, avatars)
    ]
    rows: list[dict[str, Any]] = []
    seen: dict[Path, Seen] = {}
    for avatar in people:
        for driver in people:
            name = f"{driver.name}-to-{avatar.name}"
            if args.only is None or args.only in name:
                rows.append(_kept(name, driver, avatar, args, seen))
    print(markdown(rows))
    if args.json:
        write_json(args.json, {"machine": conditions, "rows": rows})


def fitted(capture: Path, args: argparse.Namespace) -> Path:
    """The run of a capture in --out; made there by `likeness fit` if it is not."""
    name = capture.name if capture.name != "capture" else capture.parent.name
    run = args.out / f"{name}-{args.preset}-{args.iterations}"
    if not (run / "bundle" / "manifest.json").is_file():
        length = ["--iterations", str(args.iterations), "--preset", args.preset]
        command = [sys.executable, "-m", "likeness", "fit", "--capture", str(capture), *length]
        subprocess.run([*command, "--out", str(run), "--offline"], check=True)
    return run


def _kept(
    name: str, driver: Person, avatar: Person, args: argparse.Namespace, seen: dict[Path, Seen]
) -> dict[str, Any]:
    """The figures of a pair, measured unless ``--out`` has them."""
    options = {
        "driver": str(driver.capture.absolute()),
        "avatar": str(avatar.avatar.absolute()),
        "frames": args.frames,
    }
    record = args.out / f"{name}.json"
    if record.exists():
        content = json.loads(record.read_text())
        if content["options"] != options:
            sys.exit(f"{record}: figures of other options; choose another --out")
        return content["figures"]
    figures = measure(driver, avatar, args.frames, seen, args.out / f"{name}.jpg")
    write_json(record, {"options": options, "figures": figures})
    print(f"{name}: done", file=sys.stderr)
    return figures


def measure(
    driver: Person, avatar: Person, count: int, seen: dict[Path, Seen], sheet: Path
) -> dict[str, Any]:
    """What arrives of a driver at an avatar. seen: what was seen of the captures so far, added to.
    sheet: the file of a picture of both, from the most closed to the most open lips."""
    import torch

    from likeness.avatar import Avatar
    from likeness.fitting.images import to_uint8
    from likeness.scene.capture import Capture

    capture = Capture.load(avatar.capture)
    figure = Avatar.load(avatar.avatar, "cpu")
    driven = figure.drive(driver.capture)
    for person in {driver.capture: driver, avatar.capture: avatar}.values():
        if person.capture not in seen:
            source = figure.drive(person.capture) if person is not driver else driven
            assert source.images is not None
            frames = range(min(count, len(source)))
            seen[person.capture] = Seen.of([to_uint8(source.images(index)) for index in frames])
    theirs, own = seen[driver.capture], seen[avatar.capture]
    itself = driver.capture == avatar.capture
    frames = list(range(len(theirs.images)))
    if itself:
        frames = list(capture.test)
        assert driven.images is not None
        theirs = Seen.of([to_uint8(driven.images(index)) for index in frames])
    white, camera = torch.ones(3), figure.bundle.default_camera
    images = [
        to_uint8(figure.player.step(driven.states[index], camera, white, clamp_views=True).rgb)
        for index in frames
    ]
    ours = Seen.of(images)
    both = theirs.found & ours.found
    row: dict[str, Any] = {
        "driver": driver.name,
        "avatar": avatar.name,
        "frames": int(both.sum()),
        "without_face": int((theirs.found & ~ours.found).sum()),
    }
    if both.sum() < _MIN_FRAMES:
        return row
    index = np.flatnonzero(both)
    (face, maps), (face_own, _) = (
        face_measures.stabilised(clip.points[mask])
        for clip, mask in ((ours, both), (own, own.found))
    )
    face_driver, maps_driver = face_measures.stabilised(theirs.points[both])
    calm = face_measures.calm(face_driver)
    recorded = _on_mesh(capture, capture.states, capture.cameras[0])
    mesh = _on_mesh(capture, driven.states[[frames[i] for i in index]], camera)
    shape = face_measures.identity_distance(face_own, face_driver, face)
    row |= {
        "features": face_measures.transferred(face_driver, face, face_own),
        "mesh": face_measures.transferred(face_driver, mesh, recorded),
        "closed": face_measures.lips_closed(face_driver, face),
        "flicker": face_measures.flicker(face_driver, face, calm),
        "pixel_flicker": face_measures.flicker(
            face_measures.crops([theirs.images[i] for i in index], maps_driver),
            face_measures.crops([ours.images[i] for i in index], maps),
            calm,
        ),
        "identity": None if itself else shape,
    }
    order = index[np.argsort(face_measures.features(face_driver)["lips"])]
    chosen = order[np.linspace(0, len(order) - 1, _SHEET_FRAMES).round().astype(int)]
    _write_sheet(sheet, [[clip.images[i] for i in chosen] for clip in (theirs, ours)])
    return row


def _on_mesh(capture: Capture, states: HeadState, camera: Camera) -> np.ndarray:
    """Landmarks [T, 478, 2] of the capture's head model at states [T], stabilised."""
    from likeness.head_models import shaped_head

    posed = shaped_head(capture).posed(states)
    pixels, _ = camera.in_frame(states.T_world_head).project(posed.landmarks())
    return face_measures.stabilised(pixels.double().numpy())[0]


def _write_sheet(path: Path, rows: list[list[np.ndarray]]) -> None:
    import cv2

    from likeness.playback.transfer.running import at_height
    from likeness.scene.image_files import save_rgb

    square = [[cv2.resize(at_height(i, _SHEET), (_SHEET, _SHEET)) for i in row] for row in rows]
    save_rgb(path, np.concatenate([np.concatenate(row, 1) for row in square]))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each pair, range/correlation of each feature, and one of means over the pairs: of
    the images, and of the tracked meshes."""
    titles = ["driver → avatar", *FEATURES, "closed", "flicker", "of pixels", "identity"]
    images = table(
        [*titles, "frames", "no face"], _lines(rows, lambda row: _cells(row, "features"))
    )
    count = len(FEATURES)
    meshes = table(titles[: count + 1], _lines(rows, lambda row: _cells(row, "mesh")[:count]))
    return f"{images}\n\nOn the tracked mesh:\n\n{meshes}"


def _lines(
    rows: Sequence[dict[str, Any]], cells: Callable[[dict[str, Any]], list[str]]
) -> list[list[str]]:
    pairs = [row for row in rows if row["driver"] != row["avatar"]]
    own = [row for row in rows if row["driver"] == row["avatar"]]
    lines = [[f"{row['driver']} → {row['avatar']}", *cells(row)] for row in pairs]
    lines += [["**pairs, mean**", *cells(_mean(pairs))]] if len(pairs) > 1 else []
    lines += [[f"{row['avatar']} itself, held out", *cells(row)] for row in own]
    return lines + ([["**itself, mean**", *cells(_mean(own))]] if len(own) > 1 else [])


def _cells(row: dict[str, Any], of: str) -> list[str]:
    cells = []
    for name in FEATURES:
        value = row.get(of, {}).get(name)
        cells.append("–" if value is None else f"{value['range']:.2f} / {value['correlation']:.2f}")
    for name in ("closed", "flicker", "pixel_flicker", "identity"):
        value = row.get(name)
        cells.append("–" if value is None else f"{value:.2f}")
    return [*cells, str(row["frames"]), str(row["without_face"])]


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The means of figures, each over those rows that have it; counts are added up."""

    def mean(values: list[Any]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    result: dict[str, Any] = {}
    for of in ("features", "mesh"):
        result[of] = {}
        for name in FEATURES:
            known = [value for row in rows if (value := row.get(of, {}).get(name))]
            if known:
                keys = ("range", "correlation")
                result[of][name] = {key: mean([value[key] for value in known]) for key in keys}
    for name in ("closed", "flicker", "pixel_flicker", "identity"):
        result[name] = mean([row.get(name) for row in rows])
    return result | {key: sum(row[key] for row in rows) for key in ("frames", "without_face")}


if __name__ == "__main__":
    main()
