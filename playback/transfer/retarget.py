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
from likeness.scene.gaze import EYES, gaze_expression, gaze_quats, looks, quats_to_gaze
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
_CLOSED_MIN = 0.4  # a person who is not seen to blink has an eye that closes here at least
# where the eye of somebody is taken to be closed whose blinks are still to come
_CLOSED_LIVE = 0.45
_SHUTTING = 0.6  # part of a blink from which on nothing may hold the eye open
_CLOSED_LIPS = 0.25  # of a clip's frames, the part that is taken to have the lips closed
# how far a person goes: this quantile and a part more, but never beyond what was seen
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
class Person:
    """What of a person's motion a transfer knows.

    names, joint_names: of the columns of states. rest: state [] without expression, at the mean
        pose.
    low, high: [E] the least and the largest coefficients. closed: [2] blink coefficients of closed
        eyes, left first.
    gaze_low, gaze_high: [2] least and largest angles of the eyes (yaw, pitch; radians).
    look_high: [E] the largest coefficients without exception, which limit the eyeLook ones.
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
    ) -> Person:
        """From a recording [T]. neutral: the frame at rest, found if None. limits: [2, E] that
        ``low`` and ``high`` may not pass, those of the recording if None."""
        rest = rest_state(states, names, neutral)
        seen = (
            torch.stack([states.expression.amin(0), states.expression.amax(0)])
            if limits is None
            else limits
        )
        quantiles = states.expression.quantile(
            torch.tensor([1 - _QUANTILE, _QUANTILE]).to(states.expression), dim=0
        )
        reach = rest.expression + (1 + _BEYOND) * (quantiles - rest.expression)
        low = torch.minimum(torch.maximum(reach[0], seen[0]), rest.expression)
        high = torch.maximum(torch.minimum(reach[1], seen[1]), rest.expression)
        angles = gaze_of(states, joint_names).flatten(0, -2)
        return cls(
            names,
            joint_names,
            rest,
            low,
            high,
            _closed(states.expression.amax(0), names),
            angles.amin(0),
            angles.amax(0),
            seen[1],
        )

    @classmethod
    def of_avatar(cls, bundle: AvatarBundle) -> Person:
        """The avatar's, by its recording; expressions never leave the bundle's
        ``expression_range``."""
        recording = bundle.recording.to("cpu")
        return cls.of_states(
            recording,
            bundle.expression_names,
            bundle.joint_names,
            limits=bundle.expression_range.cpu(),
        )

    def unlimited(self) -> Person:
        """The same, expected to go as far as coefficients and eyes can: for drivers whose future is
        not known."""
        return dataclasses.replace(
            self,
            low=torch.zeros_like(self.low),
            high=torch.ones_like(self.high),
            closed=torch.full_like(self.closed, _CLOSED_LIVE),
            gaze_low=torch.full_like(self.gaze_low, -0.6),
            gaze_high=torch.full_like(self.gaze_high, 0.6),
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
    shown = torch.tensor([not name.startswith("eye") for name in names])
    activity = states.expression[:, shown].square().sum(-1)
    closed = torch.arange(len(states))
    if "jawOpen" in names and "mouthClose" in names:
        parted = (
            states.expression[:, names.index("jawOpen")]
            - states.expression[:, names.index("mouthClose")]
        )
        closed = parted.argsort(stable=True)[: max(1, round(_CLOSED_LIPS * len(states)))]
    quiet = closed[activity[closed].argsort(stable=True)[: max(1, len(closed) // 2)]]
    expression = states.expression[quiet].median(0).values
    return HeadState(
        torch.where(shown, expression, states.expression.median(0).values),
        mean_quats(states.joints),
        mean_transform(states.T_world_head),
        mean_transform(states.T_world_body),
    )


def soft_limit(change: Tensor, most: Tensor, reach: Tensor) -> Tensor:
    """Changes from rest [..., N] >= 0 of somebody who goes up to ``reach`` [N], for one who can go
    up to ``most`` [N].

    Slope 1 at rest, ``most`` at ``reach``, monotonous between; unchanged where the driver goes no
    further than the avatar. Never beyond ``most``.
    """
    reach = torch.maximum(reach, most)
    curve = change * most * reach / (most * reach + change * (reach - most)).clamp_min(1e-12)
    return torch.minimum(curve, most)


def retarget(
    states: HeadState, driver: Person, avatar: Person, config: RetargetConfig = RetargetConfig()
) -> HeadState:
    """The avatar's states [T] for a driver's [T]; names of columns are the same for both. A
    driver's hair and clothes are not the avatar's: its own stay at rest."""
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


def _expressions(expression: Tensor, driver: Person, avatar: Person, strength: float) -> Tensor:
    return avatar.rest.expression + _both_ways(
        strength * (expression - driver.rest.expression),
        avatar.low - avatar.rest.expression,
        avatar.high - avatar.rest.expression,
        strength * (driver.low - driver.rest.expression),
        strength * (driver.high - driver.rest.expression),
    )


def _both_ways(
    change: Tensor, least: Tensor, most: Tensor, reach_low: Tensor, reach_high: Tensor
) -> Tensor:
    """``soft_limit`` for changes of either sign; ``least`` and ``reach_low`` are <= 0."""
    up = soft_limit(change.clamp_min(0), most.clamp_min(0), reach_high.clamp_min(0))
    return up - soft_limit((-change).clamp_min(0), (-least).clamp_min(0), (-reach_low).clamp_min(0))


def _closed(highest: Tensor, names: tuple[str, ...]) -> Tensor:
    """[2] blink coefficients of closed eyes. Both eyes close together, so the one better seen
    speaks for the other."""
    found = [float(highest[names.index(name)]) for name in BLINKS if name in names]
    return highest.new_full((2,), max([_CLOSED_MIN, *found]))


def _blinks(source: Tensor, expression: Tensor, driver: Person, avatar: Person) -> Tensor:
    """Blinks by how far the eye is closed: from each one's open to each one's closed eye, whole."""
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
    return (
        quats_to_gaze(states.joints[:, eyes])
        if eyes
        else states.joints.new_zeros(len(states), 1, 2)
    )


def _eye_joints(joint_names: tuple[str, ...]) -> list[int]:
    names = [f"eye_{eye}" for eye in EYES]
    return (
        [joint_names.index(name) for name in names]
        if all(name in joint_names for name in names)
        else []
    )


def _eyes(
    states: HeadState, expression: Tensor, driver: Person, avatar: Person
) -> tuple[Tensor, Tensor]:
    """Joints by their turns from rest; eyes within the angles that the avatar has shown, eyeLook
    with them."""
    turn = multiply_quats(conjugate_quats(driver.rest.joints), states.joints)
    joints = normalize_quats(multiply_quats(avatar.rest.joints.expand_as(turn), turn))
    eyes = _eye_joints(driver.joint_names)
    if not eyes:
        return expression, joints
    own, others = (quats_to_gaze(person.rest.joints[eyes]) for person in (avatar, driver))  # [2, 2]
    change = quats_to_gaze(states.joints[:, eyes]) - others
    angles = own + _both_ways(
        change,
        avatar.gaze_low - own,
        avatar.gaze_high - own,
        driver.gaze_low - others,
        driver.gaze_high - others,
    )
    joints[:, eyes] = gaze_quats(angles)
    look = torch.tensor([any(name in looks(eye) for eye in EYES) for name in driver.names])
    # By the change: trackers write eyeLook curves that say a little more than the angles (a lid, an
    # eye of its own).
    before, after = (
        gaze_expression(x, driver.names) for x in (quats_to_gaze(states.joints[:, eyes]), angles)
    )
    moved = torch.minimum((states.expression + after - before).clamp_min(0), avatar.look_high)
    return torch.where(look, moved, expression), joints


def _heads(poses: Tensor, driver: Person, avatar: Person, mode: str) -> Tensor:
    rest, own = driver.rest.T_world_head, avatar.rest.T_world_head
    if mode == "none":
        return own.expand_as(poses).clone()
    if mode == "relative":
        return own @ (invert_transform(rest) @ poses)
    return make_transform(poses[:, :3, :3], own[:3, 3] + poses[:, :3, 3] - rest[:3, 3])


def _bodies(poses: Tensor, driver: Person, avatar: Person, config: RetargetConfig) -> Tensor:
    own = avatar.rest.T_world_body
    if config.body == "rest" or config.pose == "none":
        return own.expand_as(poses).clone()
    return own @ (invert_transform(driver.rest.T_world_body) @ poses)
