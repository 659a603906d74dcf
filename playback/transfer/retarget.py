"""From the states of one person to those of another: the driver's changes from rest, on the
avatar's own rest.

All functions are pure and work on batches of states [T].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.errors import UserError
from likeness.scene.gaze import EYES, eye_look_axes, gaze_expression, gaze_quats, quats_to_gaze
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    conjugate_quats,
    invert_transform,
    make_transform,
    mean_quats,
    mean_transform,
    multiply_quats,
    normalize_quats,
)

POSES = ("relative", "absolute", "none")
BODIES = ("follow", "rest")
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
_WIDE = ("eyeWideLeft", "eyeWideRight")
_CLOSED_MIN = 0.4  # smallest blink coefficient of a closed eye, for recordings without blinks
_CLOSED_LIVE, _GAZE_LIVE = 0.45, 0.6  # closed eye and gaze (radians) of a live driver
_SHUTTING = 0.6  # part of a blink from which on nothing may hold the eye open
_CLOSED_LIPS = 0.25  # of a clip's frames, the part that is taken to have the lips closed
# the range of a person: this quantile and a part more, but never beyond what was seen
_QUANTILE, _BEYOND = 0.99, 0.25


@dataclasses.dataclass(frozen=True)
class RetargetConfig:
    """How a driver's states become the avatar's."""

    strength: float = 1.0
    """Factor of the driver's expressions; blinks, gaze and pose are not scaled."""
    pose: str = "relative"
    """relative: the head's motion from its rest, in its own axes; absolute: its rotation in the
    camera's frame as it is, its place from rest; none: the head stands still."""
    body: str = "follow"
    """follow: the shoulders' motion from their rest; rest: they stand still."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 10:
            raise UserError(f"strength: expected 0 to 10, got {self.strength}")
        for name, known in (("pose", POSES), ("body", BODIES)):
            if getattr(self, name) not in known:
                raise UserError(f"{name}: expected {', '.join(known)}, got {getattr(self, name)!r}")


@dataclasses.dataclass(frozen=True)
class MotionProfile:
    """A person's rest and range of motion, as far as a transfer needs them.

    names, joint_names: of the columns of states. rest: state [] without expression, at the mean
    pose. low, high: [E] smallest and largest coefficients. closed: [2] blink coefficients of closed
    eyes, left first. gaze_low, gaze_high: [2] smallest and largest angles of the eyes (yaw, pitch;
    radians). look_high: [E] largest coefficients without exception, which limit the eyeLook ones.
    """

    names: tuple[str, ...]
    joint_names: tuple[str, ...]
    rest: HeadState
    low: Tensor
    high: Tensor
    closed: Tensor
    gaze_low: Tensor
    gaze_high: Tensor
    look_high: Tensor

    @classmethod
    def of_states(
        cls,
        states: HeadState,
        names: tuple[str, ...],
        joint_names: tuple[str, ...],
        neutral: int | None = None,
        limits: Tensor | None = None,
    ) -> MotionProfile:
        """From a recording [T]. neutral: the frame at rest, found if None. limits: [2, E] that
        ``low`` and ``high`` may not pass, those of the recording if None."""
        expression, rest = states.expression, rest_state(states, names, neutral)
        if limits is None:
            limits = torch.stack([expression.amin(0), expression.amax(0)])
        quantiles = expression.quantile(expression.new_tensor([1 - _QUANTILE, _QUANTILE]), dim=0)
        reach = rest.expression + (1 + _BEYOND) * (quantiles - rest.expression)
        angles = gaze_of(states, joint_names).flatten(0, -2)
        return cls(
            names,
            joint_names,
            rest,
            low=torch.minimum(torch.maximum(reach[0], limits[0]), rest.expression),
            high=torch.maximum(torch.minimum(reach[1], limits[1]), rest.expression),
            closed=_closed(expression.amax(0), names),
            gaze_low=angles.amin(0),
            gaze_high=angles.amax(0),
            look_high=limits[1],
        )

    @classmethod
    def of_avatar(cls, bundle: AvatarBundle) -> MotionProfile:
        """The avatar's, by its recording; expressions never leave the bundle's
        ``expression_range``."""
        names, limits = (bundle.expression_names, bundle.joint_names), bundle.expression_range.cpu()
        return cls.of_states(bundle.recording.to("cpu"), *names, limits=limits)

    def unlimited(self) -> MotionProfile:
        """The same with the whole range of coefficients and eyes: for live drivers."""
        return dataclasses.replace(
            self,
            low=torch.zeros_like(self.low),
            high=torch.ones_like(self.high),
            closed=torch.full_like(self.closed, _CLOSED_LIVE),
            gaze_low=torch.full_like(self.gaze_low, -_GAZE_LIVE),
            gaze_high=torch.full_like(self.gaze_high, _GAZE_LIVE),
        )


def rest_state(states: HeadState, names: tuple[str, ...], frame: int | None = None) -> HeadState:
    """The state [] of a person at rest, from states [T].

    Expression: the median over the frames at rest: of those with the lips most closed (people who
    are filmed mostly talk, and parted lips are no expression's rest) the half that is least
    expressive. Lids: the median over all frames. Eyeballs, head and body: their means over all
    frames. ``frame``: all of that frame instead.
    """
    if frame is not None:
        if not 0 <= frame < len(states):
            raise UserError(f"neutral: the driver has frames 0 to {len(states) - 1}, got {frame}")
        return states[frame]
    all_frames = states.expression
    face = torch.tensor([not name.startswith("eye") for name in names])
    activity = all_frames[:, face].square().sum(-1)
    closed = torch.arange(len(states))
    if "jawOpen" in names and "mouthClose" in names:
        parted = all_frames[:, names.index("jawOpen")] - all_frames[:, names.index("mouthClose")]
        closed = parted.argsort(stable=True)[: max(1, round(_CLOSED_LIPS * len(states)))]
    quiet = closed[activity[closed].argsort(stable=True)[: max(1, len(closed) // 2)]]
    return HeadState(
        torch.where(face, all_frames[quiet].median(0).values, all_frames.median(0).values),
        mean_quats(states.joints),
        mean_transform(states.T_world_head),
        mean_transform(states.T_world_body),
    )


def soft_limit(change: Tensor, limit: Tensor, reach: Tensor) -> Tensor:
    """Changes from rest [..., N] >= 0 of a driver with the range ``reach`` [N], for an avatar with
    the range ``limit`` [N].

    Slope 1 at rest, ``limit`` at ``reach``, monotonic between; unchanged where the driver's range
    is no larger than the avatar's. Never beyond ``limit``.
    """
    reach = torch.maximum(reach, limit)
    curve = change * limit * reach / (limit * reach + change * (reach - limit)).clamp_min(1e-12)
    return torch.minimum(curve, limit)


def retarget(
    states: HeadState,
    driver: MotionProfile,
    avatar: MotionProfile,
    config: RetargetConfig = RetargetConfig(),
) -> HeadState:
    """The avatar's states [T] for a driver's [T]; names of columns are the same for both. The
    secondary motion of the driver's hair and clothes is not transferred."""
    if driver.names != avatar.names or driver.joint_names != avatar.joint_names:
        raise ValueError(
            "retarget: expected driver and avatar with the same names of expressions and joints"
        )
    expression = _expressions(states.expression, driver, avatar, config.strength)
    expression = _blinks(states.expression, expression, driver, avatar)
    expression, joints = _eyes(states, expression, driver, avatar)
    return HeadState(
        expression,
        joints,
        _heads(states.T_world_head, driver, avatar, config.pose),
        _bodies(states.T_world_body, driver, avatar, config),
    )


def _expressions(
    expression: Tensor, driver: MotionProfile, avatar: MotionProfile, strength: float
) -> Tensor:
    return avatar.rest.expression + _limited(
        strength * (expression - driver.rest.expression),
        avatar.low - avatar.rest.expression,
        avatar.high - avatar.rest.expression,
        strength * (driver.low - driver.rest.expression),
        strength * (driver.high - driver.rest.expression),
    )


def _limited(
    change: Tensor, low: Tensor, high: Tensor, reach_low: Tensor, reach_high: Tensor
) -> Tensor:
    """``soft_limit`` for changes of either sign; ``low`` and ``reach_low`` are <= 0."""
    up = soft_limit(change.clamp_min(0), high.clamp_min(0), reach_high.clamp_min(0))
    return up - soft_limit((-change).clamp_min(0), (-low).clamp_min(0), (-reach_low).clamp_min(0))


def _closed(highest: Tensor, names: tuple[str, ...]) -> Tensor:
    """[2] blink coefficients of closed eyes. Both eyes close together, so the one better seen
    speaks for the other."""
    blinks = [float(highest[names.index(name)]) for name in BLINKS if name in names]
    return highest.new_full((2,), max([_CLOSED_MIN, *blinks]))


def _blinks(
    source: Tensor, expression: Tensor, driver: MotionProfile, avatar: MotionProfile
) -> Tensor:
    """Blinks by how far the eye is closed, from each person's open to each one's closed eye."""
    expression = expression.clone()
    for side, (blink, wide) in enumerate(zip(BLINKS, _WIDE)):
        if blink not in driver.names:
            continue
        column = driver.names.index(blink)
        opened, closed = driver.rest.expression[column], driver.closed[side]
        part = (source[:, column] - opened) / (closed - opened).clamp_min(0.1)
        rest, shut = avatar.rest.expression[column], avatar.closed[side]
        expression[:, column] = torch.where(
            part > 0, rest + part.clamp_max(1) * (shut - rest), expression[:, column]
        )
        if wide in driver.names:
            column = driver.names.index(wide)
            more = (expression[:, column] - avatar.rest.expression[column]).clamp_min(0)
            expression[:, column] -= more * (1 - ((1 - part) / (1 - _SHUTTING)).clamp(0, 1))
    return expression


def gaze_of(states: HeadState, joint_names: tuple[str, ...]) -> Tensor:
    """Angles [T, 2, 2] of the eyes among the joints; zeros [T, 1, 2] where a head model has none by
    our names."""
    eyes = _eye_joints(joint_names)
    if not eyes:
        return states.joints.new_zeros(len(states), 1, 2)
    return quats_to_gaze(states.joints[:, eyes])


def _eye_joints(joint_names: tuple[str, ...]) -> list[int]:
    names = [f"eye_{eye}" for eye in EYES]
    return [joint_names.index(name) for name in names if set(names) <= set(joint_names)]


def _eyes(
    states: HeadState, expression: Tensor, driver: MotionProfile, avatar: MotionProfile
) -> tuple[Tensor, Tensor]:
    """Joints by their rotations from rest; eyes within the angles that the avatar has shown, and
    the eyeLook coefficients with them."""
    rotation = multiply_quats(conjugate_quats(driver.rest.joints), states.joints)
    joints = normalize_quats(multiply_quats(avatar.rest.joints.expand_as(rotation), rotation))
    eyes = _eye_joints(driver.joint_names)
    if not eyes:
        return expression, joints
    own, others = (quats_to_gaze(person.rest.joints[eyes]) for person in (avatar, driver))  # [2, 2]
    gaze = quats_to_gaze(states.joints[:, eyes])
    angles = own + _limited(
        gaze - others,
        avatar.gaze_low - own,
        avatar.gaze_high - own,
        driver.gaze_low - others,
        driver.gaze_high - others,
    )
    joints[:, eyes] = gaze_quats(angles)
    look = torch.tensor([any(name in eye_look_axes(eye) for eye in EYES) for name in driver.names])
    # By the change: trackers write eyeLook curves that say a little more than the angles (a lid, an
    # eye of its own).
    before, after = (gaze_expression(x, driver.names) for x in (gaze, angles))
    moved = torch.minimum((states.expression + after - before).clamp_min(0), avatar.look_high)
    return torch.where(look, moved, expression), joints


def _heads(poses: Tensor, driver: MotionProfile, avatar: MotionProfile, mode: str) -> Tensor:
    rest, own = driver.rest.T_world_head, avatar.rest.T_world_head
    if mode == "none":
        return own.expand_as(poses).clone()
    if mode == "relative":
        return own @ (invert_transform(rest) @ poses)
    return make_transform(poses[:, :3, :3], own[:3, 3] + poses[:, :3, 3] - rest[:3, 3])


def _bodies(
    poses: Tensor, driver: MotionProfile, avatar: MotionProfile, config: RetargetConfig
) -> Tensor:
    own = avatar.rest.T_world_body
    if config.body == "rest" or config.pose == "none":
        return own.expand_as(poses).clone()
    return own @ (invert_transform(driver.rest.T_world_body) @ poses)
