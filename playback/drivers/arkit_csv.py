"""ARKit's curves as phone capture apps write them: one line a frame, the layout of Live Link Face.

    Timecode,BlendShapeCount,EyeBlinkLeft, ... ,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw, ...
    ,RightEyeRoll 13:07:25:13.586,61,0.0412, ...

Names are ARKit's with a capital; their order does not matter. Older apps know no TongueOut; files
without head or eye columns drive the face alone (eyes then turn by the eyeLook curves). A line of
BlendShapeCount 0 is a frame in which
the phone lost the face: it is filled from its neighbours.

Timecodes are HH:MM:SS:FF.fff, where FF.fff counts frames at the session's rate, 60 or 30 a second
(24, 25, 50 also occur). The rate is found where a second ends: FF goes up to it. A clip that shows
no such place counts at 60, the apps' own default.

Rotations are radians. ARKit's face frame is ours (+x the subject's left, +y up, +z out of the
face). The head turns by Ry(yaw) Rx(-pitch) Rz(roll): yaw is positive to the subject's left, pitch
upwards, roll with the subject's left side rising. Of the eyes' signs writers differ (some mirror
them), so they are taken from the eyeLook curves of the same file, whose meaning is fixed; without
curves that tell, yaw is positive to the left and pitch upwards.
"""

from __future__ import annotations

import csv
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
from likeness.scene.gaze import EYES, GAZE_FULL_RAD, gaze_angles, gaze_expression, looks
from likeness.scene.head_state import HeadState
from likeness.scene.reading import damage, read_text

HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
EYE = {
    eye: tuple(f"{eye.capitalize()}Eye{axis}" for axis in ("Yaw", "Pitch", "Roll")) for eye in EYES
}
OPTIONAL = ("tongueOut",)
_DEGREES = 2 * math.pi  # no head turns so far: such numbers are degrees
_EYE_LIMIT = 1.5 * GAZE_FULL_RAD
_MAX_BYTES = 256 << 20  # hours of frames
_TELLS = 0.3  # correlation from which the eyeLook curves decide about a sign


def recognizes(path: Path) -> bool:
    """Whether a file begins like one of these (with a header whose first names are ours, in any
    order)."""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            header = file.readline(4096).lower()
    except (OSError, UnicodeDecodeError):
        return False
    return "," in header and (
        "timecode" in header or "blendshapecount" in header or "eyeblinkleft" in header
    )


def load(path: Path, bundle: AvatarBundle, options: DriverOptions = DriverOptions()) -> Recording:
    """Reads a file of curves for an avatar. Raises UserError that names file, line and column of
    what is wrong."""
    path = Path(path)
    header, lines = _read(path)
    index = _columns(path, header, bundle)
    times, fps = seconds_of(
        path, [(number, _cell(row, index["Timecode"])) for number, row in lines], options.fps
    )
    lost = _lost(lines, index)
    if all(lost):
        raise UserError(
            f"{path}: the phone saw no face in any of its {len(lines)} frames; record again"
        )
    names = [name for name in index if name not in ("Timecode", "BlendShapeCount")]
    values = _numbers(path, header, lines, [index[name] for name in names], lost)
    values = _filled(values, np.array(lost), times)
    columns = {name: torch.from_numpy(values[:, number]) for number, name in enumerate(names)}
    return Recording(path.name, _states(path, columns, bundle), torch.from_numpy(times), fps)


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the lines with content with their numbers in the file."""
    with damage(path, "table of curves (CSV)", "export it from the app again"):
        reader = csv.reader(
            io.StringIO(read_text(path, "table of curves (CSV)", _MAX_BYTES), newline="")
        )
        header = [cell.strip() for cell in next(reader, [])]
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not lines:
        raise UserError(f"{path}: holds no frames; expected a header and a line for each frame")
    return header, lines


def _columns(path: Path, header: list[str], bundle: AvatarBundle) -> dict[str, int]:
    """Where the columns that we read stand, by ARKit's names for curves. UserError when one is
    missing or doubled."""
    place = {}
    for number, cell in enumerate(header):
        if cell.lower() in place:
            raise UserError(
                f"{path}, line 1: column {cell} occurs twice; export it from the app again"
            )
        place[cell.lower()] = number
    index = {
        name: place[name.lower()]
        for name in ("Timecode", "BlendShapeCount")
        if name.lower() in place
    }
    missing = [] if "Timecode" in index else ["Timecode"]
    for name in bundle.expression_names:
        if name.lower() in place:
            index[name] = place[name.lower()]
        elif name not in OPTIONAL:
            missing.append(name[0].upper() + name[1:])
    for group in (HEAD, *EYE.values()):
        here = [name for name in group if name.lower() in place]
        index |= {name: place[name.lower()] for name in here}
        missing += [name for name in group if here and name not in here]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{path}, line 1: column {missing[0]}{others} missing; expected the columns of Live "
            "Link Face (Timecode, BlendShapeCount, EyeBlinkLeft, ...)"
        )
    return index


def _cell(row: list[str], column: int) -> str:
    """A cell, empty where the line is too short."""
    return row[column] if column < len(row) else ""


def _lost(lines: list[tuple[int, list[str]]], index: dict[str, int]) -> list[bool]:
    """Which frames the phone marked as seen without a face."""
    column = index.get("BlendShapeCount")
    return [column is not None and _cell(row, column).strip() == "0" for _, row in lines]


def _numbers(
    path: Path,
    header: list[str],
    lines: list[tuple[int, list[str]]],
    columns: list[int],
    lost: list[bool],
) -> np.ndarray:
    """[T, C] of the columns; zero where lost."""
    values = np.zeros((len(lines), len(columns)))
    for place, (number, row) in enumerate(lines):
        if lost[place]:
            continue
        if len(row) < len(header):
            missing = header[len(row)]
            raise UserError(
                f"{path}, line {number}: column {missing}: missing ({len(row)} of {len(header)} "
                "values); the file is cut off or damaged there: remove the line or export it again"
            )
        for target, column in enumerate(columns):
            try:
                value = float(row[column])
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise UserError(
                    f"{path}, line {number}: column {header[column]}: expected a number, got "
                    f"{row[column]!r}; mend or remove the line"
                )
            values[place, target] = value
    return values


def _filled(values: np.ndarray, lost: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The columns with the lost frames between (or beyond) their neighbours."""
    if not lost.any():
        return values
    return np.stack([np.interp(times, times[~lost], column[~lost]) for column in values.T], 1)


def _states(path: Path, columns: dict[str, Tensor], bundle: AvatarBundle) -> HeadState:
    zero = torch.zeros_like(next(iter(columns.values())))
    names = bundle.expression_names
    expression = torch.stack([columns.get(name, zero) for name in names], -1).clamp(0, 1)
    for name in (*HEAD, *EYE["left"], *EYE["right"]):
        if name in columns and float(columns[name].abs().max()) > _DEGREES:
            raise UserError(
                f"{path}: column {name}: values up to {float(columns[name].abs().max()):.1f}; "
                "expected radians, these look like degrees: convert them"
            )
    angles = _gaze(columns, expression, names)
    look = torch.tensor([any(name in looks(eye) for eye in EYES) for name in names])
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
    angles = torch.stack(
        [torch.stack([columns[name] for name in EYE[eye][:2]], -1) for eye in EYES], 1
    )
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
    return torch.where(correlation < -_TELLS, -1.0, 1.0).to(angles.dtype)
