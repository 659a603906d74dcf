"""Novel views: which states are seen by which cameras, and their images."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import depth_map
from likeness.playback.chosen_states import ChosenStates
from likeness.playback.player import Player
from likeness.playback.views.backgrounds import Background
from likeness.playback.views.camera_path import CameraPath
from likeness.playback.views.geometry import normal_image, normals_of
from likeness.playback.views.trajectories import (
    HEAD_CENTRE,
    TRAJECTORIES,
    Swing,
    anchors,
    at_distance,
    fitted,
    in_world,
    turned,
    with_fov,
)
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState

_log = logging.getLogger(__name__)

_DEPTH_REACH = 0.2
"""Metres before and behind the middle of the head that images of the depth show."""


@dataclasses.dataclass(frozen=True)
class Lens:
    """What an image is taken with. width, height: pixels. fov: horizontal, degrees, and distance:
    metres from the middle of the head; those of the recording if None."""

    width: int
    height: int
    fov: float | None = None
    distance: float | None = None

    def of(self, camera: Camera) -> Camera:
        """A camera whose world is a head frame, with this lens, size and distance."""
        camera = fitted(camera, self.width, self.height)
        camera = camera if self.fov is None else with_fov(camera, self.fov)
        return camera if self.distance is None else at_distance(camera, self.distance)


@dataclasses.dataclass(frozen=True)
class Shot:
    """One moment: a state [] seen by cameras of the world, each with a label where there is more
    than one."""

    state: HeadState
    cameras: list[Camera]
    labels: list[str]


def shots_by_angles(
    bundle: AvatarBundle,
    chosen: ChosenStates,
    trajectory: str,
    swing: Swing,
    around: str,
    lens: Lens,
) -> list[Shot]:
    """Shots of states by a trajectory of TRAJECTORIES. around: "rest", "frame" or "head"; see
    ``anchors``.

    States that do not move are repeated for ``swing.steps`` moments; a sequence must have as many.
    """
    states = _held(chosen, swing.steps)
    T_world_anchor, T_world_first = anchors(
        around, bundle.default_state.T_world_head, states.T_world_head
    )
    base = lens.of(bundle.default_camera.in_frame(T_world_first))
    shots = []
    for step, angles in enumerate(TRAJECTORIES[trajectory](swing)):
        cameras = [in_world(turned(base, angle), T_world_anchor[step]) for angle in angles]
        labels = [angle.label for angle in angles] if len(angles) > 1 else [""]
        shots.append(Shot(states[step], cameras, labels))
    return shots


def shots_by_path(
    bundle: AvatarBundle, chosen: ChosenStates, path: CameraPath, size: tuple[int, int] | None
) -> list[Shot]:
    """Shots of states by the cameras of a path; with a sequence, as many as the shorter of the two
    has."""
    count = len(path.cameras)
    if chosen.moving and len(chosen.states) != count:
        count = min(count, len(chosen.states))
        _log.info(
            "the sequence has %d frames and the camera path %d: the first %d of both are shown",
            *(len(chosen.states), len(path.cameras), count),
        )
    states = _held(chosen, count)
    shots = []
    for step, camera in enumerate(path.cameras[:count]):
        camera = camera if size is None else fitted(camera, *size)
        if path.relative_to == "rest":
            camera = in_world(camera, bundle.default_state.T_world_head)
        elif path.relative_to == "head":
            camera = in_world(camera, states.T_world_head[step])
        shots.append(Shot(states[step], [camera], [""]))
    return shots


def steps_and_swings(chosen: ChosenStates, trajectory: str, seconds: float) -> tuple[int, int]:
    """Moments of a trajectory, and whole movements in them of about ``seconds`` each."""
    if chosen.moving:
        return len(chosen.states), max(1, round(len(chosen.states) / chosen.fps / seconds))
    return (max(1, round(seconds * chosen.fps)) if trajectory in ("orbit", "spiral") else 1), 1


def _held(chosen: ChosenStates, steps: int) -> HeadState:
    if chosen.moving:
        return chosen.states[:steps]
    return chosen.states.map(lambda tensor: tensor.expand(steps, *tensor.shape[1:]))


@dataclasses.dataclass(frozen=True)
class Channel:
    """One kind of image, uint8 [H, W, 3 or 4], and the numbers that it shows, float32, if any."""

    image: np.ndarray
    values: np.ndarray | None = None


class ViewRenderer:
    """Renders shots. Channels by name: "colour", and "depth" and "normals" where they are asked
    for."""

    def __init__(
        self,
        player: Player,
        background: Background,
        *,
        depth: bool = False,
        normals: bool = False,
        extrapolate: bool = False,
    ) -> None:
        """extrapolate: do not clamp views beyond the recording's, see
        ``likeness.playback.view_clamp.avatar``."""
        self.player, self.background, self.extrapolate = player, background, extrapolate
        self._depth, self._normals = depth, normals

    @property
    def channels(self) -> tuple[str, ...]:
        extra = (("depth", self._depth), ("normals", self._normals))
        return ("colour", *(name for name, wanted in extra if wanted))

    def output(self, state: HeadState, camera: Camera) -> RenderOutput:
        """What the player shows of a state [] by a camera of the world."""
        depth = self._depth or self._normals
        return self.player.step(state, camera, depth=depth, clamp_views=not self.extrapolate)

    def render(self, state: HeadState, camera: Camera) -> dict[str, Channel]:
        """The channels of one image.

        Depth: [H, W] expected depth along the camera's axis in metres, 0 where nothing is; its
        image goes from 20 cm before to 20 cm behind the middle of the head. Normals: [H, W, 3],
        see ``normals_of``.
        """
        output = self.output(state, camera)
        channels = {"colour": Channel(self.background.under(output))}
        if output.depth is None:
            return channels
        depth, alpha = output.depth[..., 0], output.alpha[..., 0]
        if self._depth:
            centre = camera.K.new_tensor([*HEAD_CENTRE, 1.0])
            middle = float((camera.in_frame(state.T_world_head).T_cam_world @ centre)[2])
            values = depth.cpu().numpy()
            limits = middle - _DEPTH_REACH, middle + _DEPTH_REACH
            image = depth_map(values, alpha.cpu().numpy(), limits)
            channels["depth"] = Channel(image, values.astype(np.float32))
        if self._normals:
            normals = normals_of(depth, alpha, camera.to(depth.device))
            channels["normals"] = Channel(normal_image(normals), normals.float().cpu().numpy())
        return channels
