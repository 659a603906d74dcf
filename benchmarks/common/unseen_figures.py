"""What an avatar shows of expressions and views that its clip did not have: figures frame by frame
and by group, and sheets of pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common import face_measures
from benchmarks.common.fits import Fit, fitted, fitting_device
from benchmarks.common.unseen_people import CALM, Label, in_tracked_frames, load_person
from likeness.fitting import metrics
from likeness.fitting.binding import bound_distances
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.evaluation import MAX_PSNR, finite
from likeness.fitting.flip import flip
from likeness.fitting.image_regions import Box, box_around, boxes_mask, face_boxes
from likeness.fitting.images import to_uint8
from likeness.playback.player import Player
from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.image_files import save_rgb

REGIONS = ("full", "face", "mouth", "eyes")
MEASURES = ("psnr", "ssim", "flip")
# Groups of frames that the figures of a table are the means of. Of synthetic people; a clip has one
# group, called by its split.
EXPRESSIONS = ("mouth", "eyes", "mixtures", "speech")
OF_MOUTH, OF_EYES = ("mouth", "mixtures", "speech"), ("eyes", "mixtures")
_TILE, _TEXT, _COLUMNS = 176, 18, 8

_Image = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class UnseenFit(Fit):
    """A fit that is measured on what its clip did not show.

    split: of a clip, a name of ``face_measures.SPLITS`` or "time". truth: of a synthetic person,
    the folder of the capture with the truth; number: which one. pictures: a folder for the bundle
    and for sheets of pictures. max_train: of a clip, at most so many training frames, evenly
    spread.
    """

    split: str | None = None
    truth: Path | None = None
    number: int = 0
    pictures: Path | None = None

    def described(self) -> dict[str, Any]:
        plain = super().described()
        for name in ("truth", "pictures"):
            plain[name] = None if plain[name] is None else str(plain[name])
        return plain


@dataclasses.dataclass(frozen=True)
class Test:
    """What is measured: frames of a capture, and what each shows."""

    capture: Capture
    frames: tuple[int, ...]
    labels: tuple[Label, ...]


def divided(fit: UnseenFit) -> tuple[Capture, Test]:
    """The capture whose training frames an avatar is fitted to, and what it is measured on."""
    capture = Capture.load(fit.capture)
    if fit.truth is not None:
        person = load_person(fit.truth)
        truth = person.capture
        if fit.capture != fit.truth:
            truth = in_tracked_frames(person, capture, fit.number)
        return capture, Test(truth, truth.test, person.labels)
    if fit.split in (None, "time"):
        train, test = capture.train, capture.test
    else:
        train, test = of_split(capture, fit.split)
    labels = tuple(Label(capture.frames[k].image_path.stem, fit.split or "time") for k in test)
    return dataclasses.replace(capture, train=train, test=test), Test(capture, test, labels)


def of_split(capture: Capture, split: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and test frames of a clip, all of them training frames of the capture."""
    rows = list(capture.train)
    landmarks = capture.frames.landmarks[rows].numpy()
    rotations = capture.states.T_world_head[rows, :3, :3].numpy()
    return face_measures.split_by(
        face_measures.split_scores(split, landmarks, rotations), capture.train
    )


def figures(fit: UnseenFit) -> dict[str, Any]:
    """Fits an avatar and measures it (``measured``); what it cost stands beside."""
    capture, test = divided(fit)
    bundle, cost = fitted(fit, capture)
    if fit.pictures is not None:
        bundle.save(fit.pictures / "bundle")
    distances = bound_distances(bundle.avatar, capture)
    return {**measured(bundle, test, fit.pictures), "mm_from_bound_place": distances, **cost}


def measured(bundle: AvatarBundle, test: Test, pictures: Path | None = None) -> dict[str, Any]:
    """Figures of an avatar, as plain JSON: of every frame, means by group, the openings' ratios,
    and the headline's (``headline``) at the top. pictures: a folder for the sheets."""
    capture = test.capture.without_secondary_motion()
    player, white = Player(bundle, fitting_device()), torch.ones(3)
    truths, avatars, rows = [], [], []
    for index, label in zip(test.frames, test.labels, strict=True):
        frame = capture.frames[index]
        truth = composite(load_rgba(frame))
        image = player.step(frame.state, frame.camera, white).rgb.clamp(0, 1).cpu()
        rows.append({**dataclasses.asdict(label), **frame_figures(image, truth, frame)})
        truths.append(to_uint8(truth)), avatars.append(to_uint8(image))
    seen, shown = face_measures.detected(truths), face_measures.detected(avatars)
    for row, t, a in zip(rows, seen, shown, strict=True):
        row["openings"] = [None if o is None else dataclasses.asdict(o) for o in (t, a)]
    if pictures is not None:
        frames = [capture.frames[index] for index in test.frames]
        write_sheets(pictures, frames, test.labels, truths, avatars)
    groups = [label.group for label in test.labels]
    found = {"frames": rows, "groups": by_group(rows)}
    wanted = [name for name in dict.fromkeys(groups) if not name.startswith(("view", CALM))]
    found["ratios"] = {
        name: face_measures.ratios(*_of_groups(groups, chosen, seen, shown))
        for name, chosen in [("all", wanted), *((name, [name]) for name in dict.fromkeys(groups))]
    }
    return finite({**headline(found), **found})


def _of_groups(groups: Sequence[str], chosen: Sequence[str], *columns: Sequence[Any]) -> list[Any]:
    return [[v for v, group in zip(column, groups) if group in chosen] for column in columns]


def frame_figures(image: Tensor, truth: Tensor, frame: TrackedFrame) -> dict[str, Any]:
    """PSNR, SSIM and FLIP by region, and MS-SSIM of the whole, of two images [H, W, 3]."""
    height, width = image.shape[:2]
    error = (image.double() - truth.double()).square().mean(-1)
    maps = error, metrics.ssim_map(image, truth), torch.from_numpy(flip(image, truth))
    masks = {name: boxes_mask(b, width, height) for name, b in face_boxes(frame).items()}
    masks["full"] = np.ones((height, width), bool)
    row: dict[str, Any] = {"ms_ssim": metrics.ms_ssim(image, truth)}
    for region in REGIONS:
        mask = torch.from_numpy(masks[region])
        values = [float(values[mask].nanmean()) for values in maps]
        values[0] = min(metrics.psnr_from_mse(values[0]), MAX_PSNR)
        row[region] = dict(zip(MEASURES, values))
    return row


def by_group(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over the frames of each group."""
    return {
        group: _means([row for row in rows if row["group"] == group])
        for group in dict.fromkeys(row["group"] for row in rows)
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "ms_ssim": _mean(row["ms_ssim"] for row in rows),
        **{
            region: {m: _mean(row[region][m] for row in rows) for m in MEASURES}
            for region in REGIONS
        },
    }


def _mean(values: Any) -> float:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def headline(found: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a table's line.

    Of a clip, its split's. Of a synthetic person: psnr, face, flip, ms_ssim over all expressions;
    mouth over those of the mouth, mixtures and speech; eyes over those of eyes and mixtures; calm,
    view20 ... of the whole frame. lips, width, gap, lids: ``face_measures.ratios``.
    """
    rows, ratios = found["frames"], found["ratios"]["all"]

    def mean(region: str, measure: str, groups: Sequence[str]) -> float:
        chosen = [row for row in rows if row["group"] in groups]
        return _means(chosen or rows)[region][measure]

    line: dict[str, Any] = {
        "psnr": mean("full", "psnr", EXPRESSIONS),
        "face": mean("face", "psnr", EXPRESSIONS),
        "mouth": mean("mouth", "psnr", OF_MOUTH),
        "eyes": mean("eyes", "psnr", OF_EYES),
        "mouth_ssim": mean("mouth", "ssim", OF_MOUTH),
        "eyes_ssim": mean("eyes", "ssim", OF_EYES),
        "mouth_flip": mean("mouth", "flip", OF_MOUTH),
        "eyes_flip": mean("eyes", "flip", OF_EYES),
        "flip": mean("full", "flip", EXPRESSIONS),
        "ms_ssim": _mean(row["ms_ssim"] for row in rows if row["group"] in EXPRESSIONS)
        if any(row["group"] in EXPRESSIONS for row in rows)
        else _mean(row["ms_ssim"] for row in rows),
    }
    groups = found["groups"]
    for group in (CALM, "view20", "view30", "view45"):
        line[group] = groups[group]["full"]["psnr"] if group in groups else None
    return line | {name: ratios[name] for name in ("lips", "width", "gap", "lids", "missed")}


# ---- sheets


def write_sheets(
    folder: Path,
    frames: Sequence[TrackedFrame],
    labels: Sequence[Label],
    truths: Sequence[_Image],
    avatars: Sequence[_Image],
) -> None:
    """``faces.png``, ``mouths.png``, ``eyes.png`` (truth above, avatar below it; at most 48 of a
    clip) and ``views.png`` (whole pictures)."""
    few = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 64)).round().astype(int))
    boxes: dict[str, Callable[[TrackedFrame], Box]] = {
        "faces": _head_square,
        "mouths": lambda frame: _square(face_boxes(frame)["mouth"][0], frame),
        "eyes": _eyes_square,
        "views": lambda frame: Box(0, 0, frame.camera.width, frame.camera.height),
    }
    for name, box in boxes.items():
        chosen = [k for k in few if _belongs(name, labels[k].group)]
        tiles = [
            _pair(
                labels[k].name, *(image[box(frames[k]).slices] for image in (truths[k], avatars[k]))
            )
            for k in chosen
        ]
        if tiles:
            save_rgb(folder / f"{name}.png", grid(tiles))


def _belongs(sheet: str, group: str) -> bool:
    if sheet == "views":
        return group.startswith("view") or group == "yaw"
    if sheet == "faces":
        return True
    return group not in (CALM, *((EYES_ONLY) if sheet == "mouths" else MOUTH_ONLY)) and not (
        group.startswith("view")
    )


EYES_ONLY, MOUTH_ONLY = ("eyes", "lids"), ("mouth", "speech", "smile")


def _pair(name: str, truth: _Image, avatar: _Image) -> _Image:
    return np.concatenate([tile(truth, name), tile(avatar, "")], 0)


def tile(image: _Image, name: str, size: int = _TILE) -> _Image:
    """An image in a square of ``size`` pixels, with its name below if it has one."""
    import cv2

    scale = size / max(image.shape[:2])
    width, height = (max(1, round(scale * side)) for side in image.shape[1::-1])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    result = np.full((size + (_TEXT if name else 2), size, 3), 255, np.uint8)
    result[:height, :width] = cv2.resize(
        np.ascontiguousarray(image), (width, height), interpolation=kind
    )
    if name:
        place, font = (3, size + _TEXT - 5), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(result, name.replace("°", ""), place, font, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return result


def grid(tiles: Sequence[_Image], columns: int = _COLUMNS) -> _Image:
    """Tiles of one size in rows."""
    blank = np.full_like(tiles[0], 255)
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    rows = [np.concatenate(padded[k : k + columns], 1) for k in range(0, len(padded), columns)]
    return np.concatenate(rows, 0)


def _square(box: Box, frame: TrackedFrame) -> Box:
    """The square around a box, within the image."""
    side = min(max(box.right - box.left, box.bottom - box.top), frame.camera.width)
    left = round((box.left + box.right - side) / 2)
    top = round((box.top + box.bottom - side) / 2)
    left = min(max(left, 0), frame.camera.width - side)
    top = min(max(top, 0), frame.camera.height - side)
    return Box(left, top, left + side, top + side)


def _eyes_square(frame: TrackedFrame) -> Box:
    one, other = face_boxes(frame)["eyes"]
    corners = np.array([[b.left, b.top, b.right, b.bottom] for b in (one, other)])
    return Box(*(int(v) for v in (*corners[:, :2].min(0), *corners[:, 2:].max(0))))


def _head_square(frame: TrackedFrame) -> Box:
    box = box_around(frame.landmarks.cpu().numpy(), frame.camera.width, frame.camera.height, 0.12)
    return _square(box, frame)
