"""ARKit's curves as phone capture apps write them: one line a frame, the layout of Live Link Face.

    Timecode,BlendShapeCount,EyeBlinkLeft, ... ,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw, ...
    13:07:25:13.586,61,0.0412, ...

Names are ARKit's with a capital, in any order. Older apps know no TongueOut; files without head or
eye columns drive the face alone (eyes then follow the eyeLook curves). A line of BlendShapeCount 0
is a frame in which the phone lost the face: it is filled from its neighbours.

Timecodes are HH:MM:SS:FF.fff, where FF.fff counts frames at the session's rate, 60 or 30 a second
(24, 25, 50 also occur). The rate is found where a second ends: FF goes up to it. A clip that shows
no such place counts at 60, the apps' own default.

Rotations are radians. ARKit's face frame is ours (+x the subject's left, +y up, +z out of the
face). The head rotates by Ry(yaw) Rx(-pitch) Rz(roll): yaw is positive to the subject's left, pitch
upwards, roll with the subject's left side rising. Of the eyes' signs writers differ (some mirror
them), so they are taken from the eyeLook curves of the same file, whose meaning is fixed; without
curves that tell, yaw is positive to the left and pitch upwards.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.drivers.base import DriverOptions, Recording
from likeness.playback.drivers.timecode import seconds_of
from likeness.playback.poses import eye_joints, head_pose, head_rotation
from likeness.scene.errors import UserError
from likeness.scene.gaze import EYES, GAZE_FULL_RAD, eye_look_axes, gaze_angles, gaze_expression
from likeness.scene.head_state import HeadState
from likeness.scene.reading import damage, read_text

HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
EYE = {
    eye: tuple(f"{eye.capitalize()}Eye{axis}" for axis in ("Yaw", "Pitch", "Roll")) for eye in EYES
}
OPTIONAL = ("tongueOut",)
_WHAT, _REMEDY = "table of curves (CSV)", "export it from the app again"
_MAX_ANGLE = 2 * math.pi  # no head turns so far: such numbers are degrees
_EYE_LIMIT = 1.5 * GAZE_FULL_RAD
_MAX_BYTES = 256 << 20  # hours of frames
_MIN_CORRELATION = 0.3  # from which the eyeLook curves decide about a sign


def recognizes(path: Path) -> bool:
    """Whether a file begins with a header of these columns, in any order."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(4096).lower()
    except (OSError, UnicodeDecodeError):
        return False
    ours = ("timecode", "blendshapecount", "eyeblinkleft")
    return "," in header and any(name in header for name in ours)


def load(source: str, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """Reads a file of curves for an avatar. Raises UserError that names file, line and column of
    what is wrong."""
    path = Path(source)
    table = _Table.read(path)
    index = _columns(table, bundle)
    codes = [(number, _cell(row, index["Timecode"])) for number, row in table.lines]
    times, fps = seconds_of(path, codes, options.fps)
    names = [name for name in index if name not in ("Timecode", "BlendShapeCount")]
    values = table.numbers([index[name] for name in names], index.get("BlendShapeCount"))
    lost = np.isnan(values[:, 0])
    if lost.all():
        raise UserError(
            f"{path}: the phone saw no face in any of its {len(times)} frames; record again"
        )
    # lost frames lie between (or beyond) their neighbours
    columns = [np.interp(times, times[~lost], column[~lost]) for column in values.T]
    curves = {name: torch.from_numpy(column) for name, column in zip(names, columns)}
    return Recording(path.name, _states(path, curves, bundle), torch.from_numpy(times), fps)


@dataclasses.dataclass(frozen=True)
class _Table:
    """The header, and the lines with content with their numbers in the file."""

    path: Path
    header: list[str]
    lines: list[tuple[int, list[str]]]

    @classmethod
    def read(cls, path: Path) -> _Table:
        with damage(path, _WHAT, _REMEDY):
            reader = csv.reader(io.StringIO(read_text(path, _WHAT, _MAX_BYTES), newline=""))
            header = [cell.strip() for cell in next(reader, [])]
            lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
        if not lines:
            raise UserError(f"{path}: holds no frames; expected a header and a line for each frame")
        return cls(path, header, lines)

    def numbers(self, columns: list[int], count: int | None) -> np.ndarray:
        """[T, C] of the columns; NaN in the frames in which the phone saw no face, those with 0 in
        the column ``count``."""
        values = np.full((len(self.lines), len(columns)), math.nan)
        for place, (number, row) in enumerate(self.lines):
            if count is not None and _cell(row, count).strip() == "0":
                continue
            if len(row) < len(self.header):
                raise UserError(
                    f"{self.path}, line {number}: column {self.header[len(row)]}: missing "
                    f"({len(row)} of {len(self.header)} values); the file is cut off or damaged "
                    "there: remove the line or export it again"
                )
            values[place] = [self._number(number, row, column) for column in columns]
        return values

    def _number(self, line: int, row: list[str], column: int) -> float:
        with contextlib.suppress(ValueError):
            if math.isfinite(value := float(row[column])):
                return value
        raise UserError(
            f"{self.path}, line {line}: column {self.header[column]}: expected a number, got "
            f"{row[column]!r}; mend or remove the line"
        )


def _cell(row: list[str], column: int) -> str:
    """A cell, empty where the line is too short."""
    return row[column] if column < len(row) else ""


def _columns(table: _Table, bundle: AvatarBundle) -> dict[str, int]:
    """Where the columns that are read stand, by ARKit's names for curves. UserError when one is
    missing or doubled."""
    place: dict[str, int] = {}
    for number, cell in enumerate(table.header):
        if cell.lower() in place:
            raise UserError(f"{table.path}, line 1: column {cell} occurs twice; {_REMEDY}")
        place[cell.lower()] = number
    wanted = ["Timecode", *(n for n in bundle.expression_names if n not in OPTIONAL)]
    for group in (HEAD, *EYE.values()):  # whole or not at all
        wanted += group if any(name.lower() in place for name in group) else ()
    missing = [name[0].upper() + name[1:] for name in wanted if name.lower() not in place]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{table.path}, line 1: column {missing[0]}{others} missing; expected the columns of "
            "Live Link Face (Timecode, BlendShapeCount, EyeBlinkLeft, ...)"
        )
    known = [*wanted, "BlendShapeCount", *(n for n in OPTIONAL if n in bundle.expression_names)]
    return {name: place[name.lower()] for name in known if name.lower() in place}


def _states(path: Path, columns: dict[str, Tensor], bundle: AvatarBundle) -> HeadState:
    zero = torch.zeros_like(next(iter(columns.values())))
    names = bundle.expression_names
    expression = torch.stack([columns.get(name, zero) for name in names], -1).clamp(0, 1)
    for name in (*HEAD, *EYE["left"], *EYE["right"]):
        largest = float(columns[name].abs().max()) if name in columns else 0.0
        if largest > _MAX_ANGLE:
            raise UserError(
                f"{path}: column {name}: values up to {largest:.1f}; expected radians, these look "
                "like degrees: convert them"
            )
    angles = _gaze(columns, expression, names)
    look = torch.tensor([any(name in eye_look_axes(eye) for eye in EYES) for name in names])
    expression = torch.where(look, gaze_expression(angles, names), expression)
    rotation = torch.eye(3, dtype=zero.dtype).expand(len(zero), 3, 3)
    if HEAD[0] in columns:
        rotation = head_rotation(*(columns[name] for name in HEAD))
    pose = head_pose(bundle, rotation)
    body = bundle.default_state.T_world_body.cpu().expand_as(pose).clone()
    joints = eye_joints(bundle, angles)
    return HeadState(expression.float(), joints.float(), pose.float(), body.float())


def _gaze(columns: dict[str, Tensor], expression: Tensor, names: tuple[str, ...]) -> Tensor:
    """Angles [T, 2, 2] of both eyes (yaw to the left, pitch up): from their rotations where they
    move, else from the eyeLook curves."""
    by_curves = gaze_angles(expression, names)
    if any(group[0] not in columns for group in EYE.values()):
        return by_curves
    rows = [torch.stack([columns[name] for name in EYE[eye][:2]], -1) for eye in EYES]
    angles = torch.stack(rows, 1)
    # zeros, by apps that do not know
    if float(angles.abs().max()) < 1e-6 < float(by_curves.abs().max()):
        return by_curves
    signs = torch.stack([_sign(angles[..., axis], by_curves[..., axis]) for axis in (0, 1)])
    return (angles * signs).clamp(-_EYE_LIMIT, _EYE_LIMIT)


def _sign(angles: Tensor, looks: Tensor) -> Tensor:
    """1 or -1: whether rotations [T, 2] and the eyeLook curves' angles run together or against each
    other."""
    a, b = (x - x.mean(0) for x in (angles, looks))
    correlation = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9)
    return torch.where(correlation < -_MIN_CORRELATION, -1.0, 1.0).to(angles.dtype)
