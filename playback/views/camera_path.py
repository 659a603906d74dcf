"""Camera paths as JSON files.

::

    {
      "format": "camera_path", "format_version": 1,
      "fps": 25,                       frames per second
      "width": 512, "height": 512,     pixels; what every K is for
      "relative_to": "head",           optional; see below
      "frames": [
        {"fov_degrees": 25, "eye": [0.3, 0, 0.9], "target": [0, 0, -0.06], "up": [0, 1, 0]},
        {"K": [[1280, 0, 256], [0, 1280, 256], [0, 0, 1]],
         "T_cam_head": [[...], [...], [...], [0, 0, 0, 1]]}
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

``frames`` has one entry for each image. ``keyframes`` in its place has entries with ``time_s``,
rising from 0; between them eyes move on a smooth curve, rotations by slerp and lenses linearly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

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
MAX_PICTURES = 100_000  # over an hour at 25 frames per second
_MAX_SECONDS = 3600
_TOP = ("format", "format_version", "fps", "width", "height", "relative_to", "frames", "keyframes")
_ENTRY = ("eye", "target", "up", "K", "fov_degrees")


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """cameras: one for each image, whose world is the frame that ``relative_to`` names. fps: their
    rate."""

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
    file = _Object(f"{path}", top)
    file.allow(_TOP)
    if ("frames" in top) == ("keyframes" in top):
        file.fail("expected either frames or keyframes")
    kind = "frames" if "frames" in top else "keyframes"
    relative_to = top.get("relative_to", "world")
    if relative_to not in RELATIVE_TO:
        known = ", ".join(RELATIVE_TO)
        file.fail(f"relative_to: expected one of {known}, got {relative_to!r}")
    fps, width, height = file.number("fps", 1000), file.side("width"), file.side("height")
    if not isinstance(top[kind], list) or not top[kind]:
        file.fail(f"{kind}: expected a list with at least one entry")
    entries = [_Object(f"{path}: {kind}[{i}]", entry) for i, entry in enumerate(top[kind])]
    for entry in entries:
        if not isinstance(entry.fields, dict):
            entry.fail("expected an object with a pose")
    times = _times(entries) if kind == "keyframes" else []
    count = round(times[-1] * fps) if times else len(entries)
    if count > MAX_PICTURES:
        file.fail(f"{count} images; a path has at most {MAX_PICTURES}: lower fps or shorten it")
    lens, timed = fitted(recorded, width, height), ("time_s",) if times else ()
    with damage(path, "camera path", "mend the file"):
        cameras = [_camera(entry, relative_to, lens, timed) for entry in entries]
    if times:
        cameras = interpolate(cameras, times, fps)
    return CameraPath(cameras, fps, relative_to)


def _camera(entry: _Object, relative_to: str, lens: Camera, timed: tuple[str, ...]) -> Camera:
    matrix, fields = f"T_cam_{relative_to}", entry.fields
    entry.allow((matrix, *_ENTRY, *timed))
    posed = matrix in fields
    if posed == ("eye" in fields or "target" in fields):
        entry.fail(f"expected either {matrix} or eye and target")
    if posed and "up" in fields:
        entry.fail(f"up: belongs to eye and target, not to {matrix}")
    camera = _with_lens(entry, lens)
    if posed:
        pose = entry.array(matrix, (4, 4))
        if (problem := rigid_problem(pose)) is not None:
            entry.fail(f"{matrix}: {problem}")
        return dataclasses.replace(camera, T_cam_world=torch.from_numpy(pose).float())
    eye, target = entry.array("eye", (3,)), entry.array("target", (3,))
    up = np.array([0.0, -1.0 if relative_to == "world" else 1.0, 0.0])
    up = entry.array("up", (3,)) if "up" in fields else up
    distance, length = np.linalg.norm(target - eye), np.linalg.norm(up)
    if distance < 1e-6:
        entry.fail("target: is where eye is; the camera needs a direction")
    if length < 1e-6 or np.linalg.norm(np.cross((target - eye) / distance, up / length)) < 1e-4:
        entry.fail("up: expected a direction that is not the one of the view")
    eye, target, up = (torch.from_numpy(vector).float() for vector in (eye, target, up))
    return Camera.looking_at(camera.K, eye, target, up, camera.width, camera.height)


def _with_lens(entry: _Object, camera: Camera) -> Camera:
    if "K" in entry.fields and "fov_degrees" in entry.fields:
        entry.fail("expected either K or fov_degrees, not both")
    if "K" in entry.fields:
        K = entry.array("K", (3, 3))
        focal, skew = (K[0, 0], K[1, 1]), (K[0, 1], K[1, 0])
        if min(focal) <= 0 or any(skew) or K[2].tolist() != [0, 0, 1]:
            entry.fail("K: expected fx 0 cx, 0 fy cy, 0 0 1 with fx and fy above 0")
        return dataclasses.replace(camera, K=torch.from_numpy(K).float())
    if "fov_degrees" not in entry.fields:
        return camera
    K = torch.eye(3)
    K[0, 2], K[1, 2] = camera.width / 2, camera.height / 2
    return with_fov(dataclasses.replace(camera, K=K), entry.number("fov_degrees", 170))


def _times(entries: list[_Object]) -> list[float]:
    times: list[float] = []
    for entry in entries:
        value: Any = entry.fields.get("time_s")
        if not _is_number(value) or not math.isfinite(value):
            entry.fail(f"time_s: expected seconds, got {value!r}")
        if value <= times[-1] if times else value != 0:
            entry.fail(f"time_s: expected 0 at first and rising times, got {value:g}")
        if value > _MAX_SECONDS:
            entry.fail("time_s: a path has at most an hour")
        times.append(float(value))
    return times


@dataclasses.dataclass(frozen=True)
class _Object:
    """A JSON object of the file, and how messages name it."""

    name: str
    fields: dict[str, Any]

    def fail(self, text: str) -> NoReturn:
        raise UserError(f"{self.name}: {text}")

    def allow(self, known: Sequence[str]) -> None:
        for name in self.fields:
            if name not in known:
                self.fail(f"unknown field {name!r}; {hint(name, known)}")

    def number(self, field: str, most: float) -> float:
        value: Any = self.fields.get(field)
        if not _is_number(value) or not 0 < value <= most:
            self.fail(f"{field}: expected a number above 0 and at most {most:g}, got {value!r}")
        return float(value)

    def side(self, field: str) -> int:
        value = self.fields.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
            self.fail(f"{field}: expected a whole number from 1 to {MAX_SIDE}, got {value!r}")
        return value

    def array(self, field: str, shape: tuple[int, ...]) -> np.ndarray:
        expected = f"expected {'x'.join(map(str, shape))} numbers"
        if field not in self.fields:
            self.fail(f"{field}: missing; {expected}")
        if not _numeric(self.fields[field]):
            self.fail(f"{field}: {expected}, got something else")
        try:
            array = np.array(self.fields[field], dtype=np.float64)
        except (ValueError, OverflowError):
            self.fail(f"{field}: {expected} in rows of one length")
        if array.shape != shape:
            got = "x".join(map(str, array.shape)) or "one number"
            self.fail(f"{field}: {expected}, got {got}")
        if not np.isfinite(array).all():
            self.fail(f"{field}: holds a value that is not a finite number")
        return array


def _numeric(value: Any) -> bool:
    """Whether a value is a number, or nested lists of numbers alone."""
    return all(map(_numeric, value)) if isinstance(value, list) else _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
