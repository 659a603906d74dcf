"""Where the camera stands: rotations about the head, and the lens and size of the image.

Angles are those of the camera seen from the middle of the head, in the anchor's frame (a head
frame): yaw to the subject's left, pitch upwards, both 0 where the recording's camera stood. An
anchor is the head at rest, the head of one frame, or the head of every frame (then the camera moves
with the head).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from torch import Tensor

from likeness.scene.camera import Camera
from likeness.scene.transforms import invert_transform, make_transform, rotvecs_to_matrices

HEAD_CENTRE = (0.0, -0.03, -0.06)
"""What cameras turn about: the middle of the skull in the head frame, metres."""


@dataclasses.dataclass(frozen=True)
class Angle:
    """Degrees: ``yaw`` to the subject's left, ``pitch`` upwards."""

    yaw: float = 0.0
    pitch: float = 0.0

    @property
    def label(self) -> str:
        return f"yaw {self.yaw:+g} pitch {self.pitch:+g}"


@dataclasses.dataclass(frozen=True)
class Swing:
    """What trajectories are made of.

    steps: number of moments. swings: whole movements in them. yaw, pitch: how far they go, degrees.
    yaws, pitches: of the grid.
    """

    steps: int
    swings: int = 1
    yaw: float = 30.0
    pitch: float = 15.0
    yaws: tuple[float, ...] = (-30.0, -15.0, 0.0, 15.0, 30.0)
    pitches: tuple[float, ...] = (0.0,)


def still(swing: Swing) -> list[list[Angle]]:
    """The camera of the recording."""
    return [[Angle()]] * swing.steps


def orbit(swing: Swing) -> list[list[Angle]]:
    """From side to side and back, slower at the ends; with ``yaw`` 180 all the way round at one
    speed. It loops."""
    if swing.yaw >= 180:
        return [[Angle((360 * phase + 180) % 360 - 180)] for phase in _phases(swing)]
    return [[Angle(swing.yaw * math.sin(2 * math.pi * phase))] for phase in _phases(swing)]


def spiral(swing: Swing) -> list[list[Angle]]:
    """Three turns outwards and back in an ellipse of ``yaw`` by ``pitch``. It loops."""
    angles = []
    for phase in _phases(swing):
        radius, angle = math.sin(math.pi * phase), 6 * math.pi * phase
        angles.append(
            [Angle(swing.yaw * radius * math.sin(angle), swing.pitch * radius * math.cos(angle))]
        )
    return angles


def grid(swing: Swing) -> list[list[Angle]]:
    """All pairs of ``yaws`` and ``pitches`` at every moment, row by row from the highest."""
    angles = [
        Angle(yaw, pitch) for pitch in sorted(swing.pitches, reverse=True) for yaw in swing.yaws
    ]
    return [angles] * swing.steps


TRAJECTORIES: dict[str, Callable[[Swing], list[list[Angle]]]] = {
    "still": still,
    "orbit": orbit,
    "spiral": spiral,
    "grid": grid,
}
"""By name: the angles of the cameras at each moment, [steps][cameras]."""


def _phases(swing: Swing) -> list[float]:
    return [(step * swing.swings / swing.steps) % 1.0 for step in range(swing.steps)]


def turned(camera: Camera, angle: Angle) -> Camera:
    """A camera whose world is a head frame, turned about the middle of the head."""
    yaw = rotvecs_to_matrices(camera.K.new_tensor([0.0, math.radians(angle.yaw), 0.0]))
    pitch = rotvecs_to_matrices(camera.K.new_tensor([-math.radians(angle.pitch), 0.0, 0.0]))
    rotation, centre = yaw @ pitch, camera.K.new_tensor(HEAD_CENTRE)
    T_head_turned = make_transform(rotation, centre - rotation @ centre)
    return dataclasses.replace(
        camera, T_cam_world=camera.T_cam_world @ invert_transform(T_head_turned)
    )


def at_distance(camera: Camera, metres: float) -> Camera:
    """A camera whose world is a head frame, moved to or from the middle of the head, which keeps
    its pixel."""
    centre = (camera.T_cam_world @ camera.K.new_tensor([*HEAD_CENTRE, 1.0]))[:3]
    pose = camera.T_cam_world.clone()
    pose[:3, 3] += centre * (metres / centre.norm() - 1)
    return dataclasses.replace(camera, T_cam_world=pose)


def fitted(camera: Camera, width: int, height: int) -> Camera:
    """The same view in an image of another size: all that was seen is seen; another shape shows
    more at two sides."""
    scale = min(width / camera.width, height / camera.height)
    K = camera.K.clone()
    K[..., :2, :] *= scale
    K[..., 0, 2] += (width - scale * camera.width) / 2
    K[..., 1, 2] += (height - scale * camera.height) / 2
    return Camera(K, camera.T_cam_world, width, height)


def with_fov(camera: Camera, degrees: float) -> Camera:
    """Another lens at the same place: a horizontal field of view about the direction of the
    image's middle."""
    ratio = 0.5 * camera.width / math.tan(0.5 * math.radians(degrees)) / float(camera.K[0, 0])
    middle = camera.K.new_tensor([camera.width / 2, camera.height / 2])
    K = camera.K.clone()
    K[:2, :2] *= ratio
    K[:2, 2] = middle + (K[:2, 2] - middle) * ratio
    return dataclasses.replace(camera, K=K)


def anchors(kind: str, T_world_rest: Tensor, T_world_head: Tensor) -> tuple[Tensor, Tensor]:
    """The frames [T, 4, 4] in which cameras stand, and that [4, 4] in which the recording's
    camera is seen first.

    kind: "rest", "frame" (the first state's head) or "head" (every state's). T_world_head: [T, 4,
        4] of the states.
    """
    if kind == "head":
        return T_world_head, T_world_rest
    anchor = {"rest": T_world_rest, "frame": T_world_head[0]}[kind]
    return anchor.expand_as(T_world_head), anchor


def in_world(camera: Camera, T_world_anchor: Tensor) -> Camera:
    """A camera that stands in an anchor's frame, in the world."""
    return camera.in_frame(invert_transform(T_world_anchor))
