"""Camera paths as JSON files.

::

    {
      "format": "camera_path", "format_version": 1,
      "fps": 25,                       frames per second
      "width": 512, "height": 512,     pixels; what every K is for
      "relative_to": "head",           optional; see below
      "frames": [
        {"fov_degrees": 25, "eye": [0.3, 0, 0.9], "target": [0, 0, -0.06], "up": [0, 1, 0]}, {"K":
        [[1280, 0, 256], [0, 1280, 256], [0, 0, 1]], "T_cam_head": [[...], [...], [...], [0, 0, 0,
        1]]}
      ]
    }

``relative_to`` says in which frame the cameras stand: "world" (the default: that of the recording's
camera, +x right, +y down, +z forward), "rest" (the head at its mean pose) or "head" (the head of
every moment: the camera moves with it). Head frames have +x to the subject's left, +y up, +z out of
the face, metres.

Each entry has a pose: either ``T_cam_world`` / ``T_cam_rest`` / ``T_cam_head`` (by
``relative_to``), a rigid 4x4 matrix from that frame to the camera (OpenCV: +x right, +y down, +z
forward), or ``eye`` and ``target`` with an optional ``up`` (without it the frame's own: 0 -1 0 in
the world, 0 1 0 in head frames). Its lens is ``K`` (3x3, pixels, no skew) or ``fov_degrees``
(horizontal, the principal point in the middle); with neither it is the recording's.

``frames`` has one entry for each picture. ``keyframes`` in its place has entries with ``time_s``,
rising from 0; between them eyes move on a smooth curve, rotations by slerp and lenses linearly.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.playback.input_checks import rigid_problem
from likeness.playback.views.path_interpolation import interpolate
from likeness.playback.views.trajectories import fitted, with_fov
from likeness.scene.camera import Camera
from likeness.scene.errors import UserError, hint
from likeness.scene.reading import damage, read_versioned

FORMAT, FORMAT_VERSION = "camera_path", 1
RELATIVE_TO = ("world", "rest", "head")
MAX_SIDE = 8192
MAX_PICTURES = 100_000  # over an hour at 25 a second
_TOP = ("format", "format_version", "fps", "width", "height", "relative_to", "frames", "keyframes")
_LENS, _AIM = ("K", "fov_degrees"), ("eye", "target", "up")


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """cameras: one for each picture, whose world is the frame that ``relative_to`` names. fps:
    their rate."""

    cameras: list[Camera]
    fps: float
    relative_to: str


def load_camera_path(path: Path, recorded: Camera) -> CameraPath:
    """Reads a camera path. recorded: the camera whose lens entries without one have.

    Raises UserError that names the file, the frame and the field: not of this format, of the wrong
    shape, not finite, not a rotation, unknown or missing.
    """
    path = Path(path)
    top, _ = read_versioned(
        path, dict[str, Any], "camera path", FORMAT, FORMAT_VERSION, remedy="mend the file"
    )
    _known(path, "", top, _TOP)
    if ("frames" in top) == ("keyframes" in top):
        raise UserError(f"{path}: expected either frames or keyframes")
    kind = "frames" if "frames" in top else "keyframes"
    relative_to = top.get("relative_to", "world")
    if relative_to not in RELATIVE_TO:
        raise UserError(
            f"{path}: relative_to: expected one of {', '.join(RELATIVE_TO)}, got {relative_to!r}"
        )
    fps = _number(path, "fps", top.get("fps"), 0, 1000)
    width, height = (_side(path, name, top.get(name)) for name in ("width", "height"))
    entries = top[kind]
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: {kind}: expected a list with at least one entry")
    reader = _Entries(path, kind, relative_to, fitted(recorded, width, height))
    times = _times(reader, entries) if kind == "keyframes" else []
    pictures = round(times[-1] * fps) if times else len(entries)
    if pictures > MAX_PICTURES:
        raise UserError(
            f"{path}: {pictures} pictures; a path has at most {MAX_PICTURES}: lower fps or shorten "
            "it"
        )
    with damage(path, "camera path", "mend the file"):
        cameras = [reader.camera(number, entry) for number, entry in enumerate(entries)]
    if times:
        cameras = interpolate(cameras, times, fps)
    return CameraPath(cameras, fps, relative_to)


@dataclasses.dataclass(frozen=True)
class _Entries:
    path: Path
    kind: str
    relative_to: str
    recorded: Camera

    def camera(self, number: int, entry: Any) -> Camera:
        where = self.where(number)
        if not isinstance(entry, dict):
            raise UserError(f"{self.path}: {where}: expected an object with a pose")
        matrix = f"T_cam_{self.relative_to}"
        known = (matrix, *_AIM, *_LENS, *(("time_s",) if self.kind == "keyframes" else ()))
        _known(self.path, where, entry, known)
        posed, aimed = matrix in entry, "eye" in entry or "target" in entry
        if posed == aimed:
            raise UserError(f"{self.path}: {where}: expected either {matrix} or eye and target")
        if posed and "up" in entry:
            raise UserError(f"{self.path}: {where}: up: belongs to eye and target, not to {matrix}")
        lens = self._lens(where, entry)
        if posed:
            pose = self._array(where, matrix, entry, (4, 4))
            if (problem := rigid_problem(pose)) is not None:
                raise UserError(f"{self.path}: {where}: {matrix}: {problem}")
            return dataclasses.replace(lens, T_cam_world=_tensor(pose))
        return self._aimed(where, entry, lens)

    def where(self, number: int) -> str:
        return f"{self.kind}[{number}]"

    def _lens(self, where: str, entry: dict[str, Any]) -> Camera:
        if "K" in entry and "fov_degrees" in entry:
            raise UserError(f"{self.path}: {where}: expected either K or fov_degrees, not both")
        if "K" in entry:
            K = self._array(where, "K", entry, (3, 3))
            if not (
                K[0, 0] > 0
                and K[1, 1] > 0
                and K[0, 1] == K[1, 0] == 0
                and K[2].tolist() == [0, 0, 1]
            ):
                raise UserError(
                    f"{self.path}: {where}: K: expected fx 0 cx, 0 fy cy, 0 0 1 with fx and fy "
                    "above 0"
                )
            return dataclasses.replace(self.recorded, K=_tensor(K))
        if "fov_degrees" not in entry:
            return self.recorded
        fov = _number(self.path, f"{where}: fov_degrees", entry["fov_degrees"], 0, 170)
        K = torch.eye(3)
        K[0, 2], K[1, 2] = self.recorded.width / 2, self.recorded.height / 2
        return with_fov(dataclasses.replace(self.recorded, K=K), fov)

    def _aimed(self, where: str, entry: dict[str, Any], lens: Camera) -> Camera:
        up = np.array([0.0, -1.0 if self.relative_to == "world" else 1.0, 0.0])
        eye, target = (self._array(where, name, entry, (3,)) for name in ("eye", "target"))
        if "up" in entry:
            up = self._array(where, "up", entry, (3,))
        forward = target - eye
        lengths = np.linalg.norm(forward), np.linalg.norm(up)
        if lengths[0] < 1e-6:
            raise UserError(
                f"{self.path}: {where}: target: is where eye is; the camera needs a direction"
            )
        if (
            lengths[1] < 1e-6
            or np.linalg.norm(np.cross(forward / lengths[0], up / lengths[1])) < 1e-4
        ):
            raise UserError(
                f"{self.path}: {where}: up: expected a direction that is not the one of the view"
            )
        return Camera.looking_at(
            lens.K, _tensor(eye), _tensor(target), _tensor(up), lens.width, lens.height
        )

    def _array(
        self, where: str, field: str, entry: dict[str, Any], shape: tuple[int, ...]
    ) -> np.ndarray:
        wanted = "x".join(map(str, shape))
        if field not in entry:
            raise UserError(f"{self.path}: {where}: {field}: missing; expected {wanted} numbers")
        if not _numeric(entry[field]):
            raise UserError(
                f"{self.path}: {where}: {field}: expected {wanted} numbers, got something else"
            )
        try:
            array = np.array(entry[field], dtype=np.float64)
        except (ValueError, OverflowError):
            raise UserError(
                f"{self.path}: {where}: {field}: expected {wanted} numbers in rows of one length"
            ) from None
        if array.shape != shape:
            got = "x".join(map(str, array.shape)) or "one number"
            raise UserError(f"{self.path}: {where}: {field}: expected {wanted} numbers, got {got}")
        if not np.isfinite(array).all():
            raise UserError(
                f"{self.path}: {where}: {field}: holds a value that is not a finite number"
            )
        return array


def _numeric(value: Any) -> bool:
    """Whether nested lists hold numbers alone (true and false are none)."""
    if isinstance(value, list):
        return all(map(_numeric, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).float()


def _known(path: Path, where: str, entry: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in entry:
        if name not in known:
            raise UserError(
                f"{path}: {where + ': ' if where else ''}unknown field {name!r}; "
                f"{hint(name, known)}"
            )


def _number(path: Path, field: str, value: Any, above: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value <= most:
        raise UserError(
            f"{path}: {field}: expected a number above {above:g} and at most {most:g}, got "
            f"{value!r}"
        )
    return float(value)


def _side(path: Path, field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise UserError(
            f"{path}: {field}: expected a whole number from 1 to {MAX_SIDE}, got {value!r}"
        )
    return value


def _times(reader: _Entries, entries: list[dict[str, Any]]) -> list[float]:
    times: list[float] = []
    for number, entry in enumerate(entries):
        where = f"{reader.where(number)}: time_s"
        value = entry.get("time_s") if isinstance(entry, dict) else None
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            raise UserError(f"{reader.path}: {where}: expected seconds, got {value!r}")
        if (number == 0 and value != 0) or (times and value <= times[-1]):
            raise UserError(
                f"{reader.path}: {where}: expected 0 at first and rising times, got {value:g}"
            )
        times.append(float(value))
    if times[-1] > 3600:
        raise UserError(
            f"{reader.path}: {reader.where(len(times) - 1)}: time_s: a path has at most an hour"
        )
    return times
