"""A fitted avatar: posed by names, rendered, driven and exported."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from likeness.export.base import ExportOptions
from likeness.export.formats import EXPORTERS, export_avatar
from likeness.fitting.bundle import AvatarBundle
from likeness.playback.bundles import load_bundle
from likeness.playback.drivers import DriverOptions, Recording, open_driver
from likeness.playback.expression_names import coefficients, is_number
from likeness.playback.player import Player
from likeness.playback.poses import eye_joints, head_pose, head_rotation
from likeness.playback.transfer.retarget import RetargetConfig
from likeness.playback.transfer.running import SMOOTHING_S, transfer
from likeness.playback.views.backgrounds import TRANSPARENT, Background
from likeness.playback.views.rendering import Lens
from likeness.playback.views.trajectories import Angle, fitted, in_world, turned
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.devices import choose_device
from likeness.scene.gaze import gaze_angles
from likeness.scene.head_state import HeadState

_MAX_SIDE = 8192  # pixels


class Avatar:
    """A drivable head avatar on one device.

    States, cameras and images are independent of each other: nothing here changes the avatar.
    """

    def __init__(self, bundle: AvatarBundle, device: str = "auto") -> None:
        """device: ``cpu``, ``cuda``, or ``auto``: CUDA where it works."""
        self.bundle = bundle
        self.device = str(choose_device(device))

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Avatar:
        """The avatar of a run directory or of a bundle's folder. Raises UserError where there is
        none, or a damaged one."""
        return cls(load_bundle(Path(path)), device)

    def __repr__(self) -> str:
        avatar = self.bundle.avatar
        return (
            f"Avatar({avatar.kind}, {avatar.num_gaussians} Gaussians, "
            f"{len(self.expression_names)} expressions of {self.bundle.head_model}, {self.device})"
        )

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expressions, in the order of a state's coefficients."""
        return self.bundle.expression_names

    @property
    def recording(self) -> HeadState:
        """The states [T] of the video that the avatar was fitted to."""
        return self.bundle.recording

    @functools.cached_property
    def player(self) -> Player:
        """What evaluates and renders the avatar on its device."""
        return Player(self.bundle, self.device)

    def state(
        self, *, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, **expressions: float
    ) -> HeadState:
        """The neutral head with expressions and a rotation of the head about the neck.

        yaw, pitch, roll: degrees, positive to the subject's left, upwards, and with the subject's
            left side rising.
        expressions: coefficients, 0 neutral and 1 full, by name. ARKit's names, such as
            ``mouthSmileLeft``; without the side both are meant (``mouthSmile``), and the part of
            the face may be left out, too, where one expression remains (``smile``, ``blinkLeft``,
            ``jawOpen``). eyeLook coefficients turn the eyes as well.

        Raises ValueError for unknown or ambiguous names, and for values that are not finite.
        """
        for name, angle in (("yaw", yaw), ("pitch", pitch), ("roll", roll)):
            _check_range(name, angle)
        angles = torch.tensor([yaw, pitch, roll]) * (math.pi / 180)
        names, rest = self.expression_names, self.bundle.default_state
        expression = rest.expression.clone()
        for name, value in coefficients(expressions, names).items():
            expression[names.index(name)] = value
        return dataclasses.replace(
            rest,
            expression=expression,
            joints=eye_joints(self.bundle, gaze_angles(expression[None], names)[0]),
            T_world_head=head_pose(self.bundle, head_rotation(*angles)),
        )

    def camera(
        self,
        yaw: float = 0.0,
        pitch: float = 0.0,
        *,
        fov: float | None = None,
        distance: float | None = None,
        size: int | tuple[int, int] = 512,
    ) -> Camera:
        """A camera that looks at the head at rest.

        yaw, pitch: degrees about the head, from where the video's camera stood: to the subject's
            left, and upwards.
        fov: horizontal field of view in degrees. distance: metres from the middle of the head.
            None: those of the video.
        size: pixels of a square image, or width and height.

        Raises ValueError for values out of their range.
        """
        _check_range("yaw", yaw)
        _check_range("pitch", pitch)
        if fov is not None:
            _check_range("fov", fov, 0.1, 170)
        if distance is not None:
            _check_range("distance", distance, 0.01, 1000)
        T_world_head = self.bundle.default_state.T_world_head
        lens = Lens(*_width_height(size), fov, distance)
        camera = lens.of(self.bundle.default_camera.in_frame(T_world_head))
        return in_world(turned(camera, Angle(yaw, pitch)), T_world_head)

    def cloud(self, state: HeadState | None = None, camera: Camera | None = None) -> GaussianCloud:
        """The avatar's Gaussians [N] in the head frame, on its device: to be read, not changed.

        state: a single one, the neutral head if None. camera: where they are looked at from, the
        video's camera if None (only view-dependent avatars differ).
        """
        state = self._single(state)
        if camera is not None:
            _check_type("camera", camera, Camera, "avatar.camera(yaw=30)")
        camera = camera or self.bundle.default_camera
        return self.player.cloud(state, camera.in_frame(state.T_world_head).center)

    def render(
        self,
        state: HeadState | None = None,
        camera: Camera | None = None,
        size: int | tuple[int, int] | None = None,
        background: str | Path | tuple[float, float, float] | None = "white",
        *,
        extrapolate: bool = False,
    ) -> NDArray[np.uint8]:
        """The image of one state, uint8 sRGB [H, W, 3], or [H, W, 4] without a background.

        state: a single one, the neutral head if None. camera: the video's camera if None.
        size: pixels of a square image, or width and height; None: 512, or the camera's own where
            one is given. All that the camera sees is in the image; another shape shows more at two
            sides.
        background: a colour by its name, ``#rrggbb`` or three numbers in [0, 1], the path of an
            image, or None: transparent, with straight alpha.
        extrapolate: show the avatar as it is from views that the video never showed, too; else it
            is clamped to what the video supports.

        Raises ValueError for a batch of states, a state of another avatar, a size out of range, or
        an unknown background.
        """
        state = self._single(state)
        if camera is not None:
            _check_type("camera", camera, Camera, "avatar.camera(yaw=30)")
        if camera is None or size is not None:
            camera = fitted(
                camera or self.bundle.default_camera, *_width_height(512 if size is None else size)
            )
        output = self.player.step(state, camera, clamp_views=not extrapolate)
        return Background(_background(background)).under(output)

    def drive(
        self,
        source: str | Path,
        kind: str | None = None,
        *,
        retarget: RetargetConfig = RetargetConfig(),
        neutral: int | None = None,
        smoothing_s: float = SMOOTHING_S,
        options: DriverOptions = DriverOptions(),
    ) -> Recording:
        """What the avatar does when somebody else drives it: states [T] with times and a rate, to
        be iterated over.

        source: video, run, capture, ARKit CSV or file of states (.npz), told by its content unless
            ``kind``, a name in ``likeness.playback.drivers.DRIVERS``, says what it is.
        retarget: strength of the expressions, motion of head and body. neutral: number of the
            driver's frame at rest; detected if None. smoothing_s: window of smoothing, seconds; 0:
            none.
        options: how the source is read; its device is the avatar's.

        Raises UserError for a source that is missing, damaged, or of another head model.
        """
        _check_range("smoothing_s", smoothing_s, 0)
        options = dataclasses.replace(options, device=self.device)
        driver = open_driver(source, self.bundle, options, kind)
        if not isinstance(driver, Recording):
            raise ValueError(f"drive: {kind} has no end; likeness drive --webcam plays it")
        states = transfer(self.bundle, driver, retarget, neutral=neutral, smoothing_s=smoothing_s)
        return dataclasses.replace(driver, states=states)

    def export(
        self,
        path: str | Path,
        format: str | None = None,
        states: HeadState | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Writes the avatar for other programs; ``path`` must not exist yet.

        format: a name in ``likeness.export.formats.EXPORTERS`` (ply, spz, bundle, web); None: by
            the ending of the path, .ply or .spz.
        states: for ply and spz, a single one, or [T], which become a folder of numbered files; the
            neutral head if None.
        options: fields of ``likeness.export.base.ExportOptions``.

        Returns facts, among them ``bytes``, and ``psnr`` in dB against the avatar's own images,
        None where nothing is lost.
        Raises ValueError for formats and options that do not exist, or do not go together.
        """
        path = Path(path)
        if format is None:
            by_suffix = {Path(exporter.name).suffix: name for name, exporter in EXPORTERS.items()}
            if not path.suffix or path.suffix not in by_suffix:
                raise ValueError(
                    f"export: {path}: expected a format, one of {', '.join(EXPORTERS)}"
                )
            format = by_suffix[path.suffix]
        known = {field.name for field in dataclasses.fields(ExportOptions)} - {"moving"}
        if unknown := sorted(options.keys() - known):
            raise ValueError(
                f"export: no option {unknown[0]!r}; expected one of {', '.join(sorted(known))}"
            )
        moving = states is not None and len(states.batch_shape) == 1
        if states is not None and not moving:
            states = HeadState.stack([self._single(states)])
        return export_avatar(
            self.bundle, path, format, states, ExportOptions(moving=moving, **options)
        )

    def _single(self, state: HeadState | None) -> HeadState:
        """The state, or the neutral head; ValueError for a batch, or for another avatar's state."""
        rest = self.bundle.default_state
        if state is None:
            return rest
        _check_type("state", state, HeadState, "avatar.state(smile=1)")
        if state.batch_shape:
            raise ValueError(
                f"expected a single state, got a batch {list(state.batch_shape)}; "
                "take one of it by its index"
            )
        for name in ("expression", "joints"):
            shape, expected = getattr(state, name).shape, getattr(rest, name).shape
            if shape != expected:
                raise ValueError(
                    f"state: {name}: expected {list(expected)} as this avatar has, "
                    f"got {list(shape)}"
                )
        return state


def _check_type(name: str, value: object, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(
            f"{name}: expected a {kind.__name__}, such as {example}, got {value!r:.50}"
        )


def _check_range(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    if not is_number(value) or not low <= value <= high:
        limits = f" from {low:g}" * (low > -math.inf) + f" to {high:g}" * (high < math.inf)
        raise ValueError(f"{name}: expected a number{limits}, got {value!r:.50}")


def _is_sequence(value: object) -> bool:
    return isinstance(value, (tuple, list, np.ndarray))


def _width_height(size: Any) -> tuple[int, int]:
    sides = tuple(size) if _is_sequence(size) else (size, size)
    whole = all(isinstance(side, (int, np.integer)) for side in sides)
    if not whole or len(sides) != 2 or not 1 <= min(sides) <= max(sides) <= _MAX_SIDE:
        raise ValueError(
            f"size: expected 1 to {_MAX_SIDE} pixels a side, one or two whole numbers, "
            f"got {size!r:.50}"
        )
    return int(sides[0]), int(sides[1])


def _background(background: str | Path | tuple[float, float, float] | None) -> str:
    """A background as text."""
    if background is None:
        return TRANSPARENT
    if isinstance(background, (str, Path)):
        return str(background)
    if (
        not _is_sequence(background)
        or len(background) != 3
        or not all(is_number(value) and 0 <= value <= 1 for value in background)
    ):
        raise ValueError(
            "background: expected a colour's name, #rrggbb, an image's path or three numbers in "
            f"[0, 1], got {background!r:.50}"
        )
    return "#" + "".join(f"{round(255 * value):02x}" for value in background)
