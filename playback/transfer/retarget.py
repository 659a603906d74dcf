"""From the states of one person to those of another: the driver's changes from rest, on the
avatar's own rest, at full strength.

A coefficient moves every face by the same amount, so changes are taken over as they are. What is
not the same are the ends that touch: lips meet and lids close at coefficients of each person's own,
and there both people's are brought together. Limits are those of a face; of avatars that move by
nothing but what they were fitted to, those of their recording.

All functions are pure and work on batches of states [T].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.transfer.lips import has_lips, meeting, opening, with_opening
from likeness.scene.errors import UserError
from likeness.scene.gaze import (
    EYES,
    GAZE_FULL_RAD,
    eye_look_axes,
    gaze_expression,
    gaze_quats,
    quats_to_gaze,
)
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
_CLOSED_MIN = 0.4  # smallest blink coefficient of a closed eye
_BLINK_RISE = 0.2  # over the median: smallest one that shows the eye closed
_CLOSED_UNSEEN = 1.0  # closed eye of a recording without blinks: the head model's
_CLOSED_LIVE = 0.45  # closed eye of a live driver
# Avatars that show what was never seen: what blinks were tracked at may leave their lids ajar.
_CLOSED_WHOLE = 0.9
# Expressions that are an opposite's, too, a little below zero: a face at rest may hold its brows or
# corners of the mouth where another one's never are.
_TWO_WAY = (
    *("brow", "nose", "cheek", "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthPress", "mouthPucker", "mouthLeft", "mouthRight"),
)
_BELOW_ZERO = -0.3
_SHUTTING = 0.6  # part of a blink from which on nothing may hold the eye open
# At rest lips are closed, up to so many mm farther apart than where they meet, and the rest of the
# face is quiet: this part of those frames. Of clips whose lips hardly meet, the most closed frames.
_AJAR_MM, _QUIET, _CLOSED_MIN_PART = 1.5, 0.25, 0.03
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
    lips_meet: Tensor

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
            closed=_closed(expression, names),
            gaze_low=angles.amin(0),
            gaze_high=angles.amax(0),
            look_high=limits[1],
            lips_meet=meeting(expression, names) if has_lips(names) else expression.new_zeros(()),
        )

    @classmethod
    def of_avatar(cls, bundle: AvatarBundle) -> MotionProfile:
        """The avatar's, by its recording.

        One that shows what was never seen has a face's whole range. Expressions of others never
        leave the bundle's ``expression_range``.
        """
        names, limits = (bundle.expression_names, bundle.joint_names), bundle.expression_range.cpu()
        profile = cls.of_states(bundle.recording.to("cpu"), *names, limits=limits)
        if bundle.shows_unseen:
            return profile.whole()
        seen = [float(limits[1, names[0].index(name)]) for name in BLINKS if name in names[0]]
        closed = profile.closed.clamp_max(max([_CLOSED_MIN, *seen]))
        return dataclasses.replace(profile, closed=closed)

    def whole(self) -> MotionProfile:
        """The same with the whole range of coefficients and eyes that is plausible in a face, and
        lids that close."""
        two_way = torch.tensor([name.startswith(_TWO_WAY) for name in self.names])
        return dataclasses.replace(
            self,
            low=torch.minimum(self.low, _BELOW_ZERO * two_way),
            high=self.high.clamp_min(1.0),
            closed=self.closed.clamp_min(_CLOSED_WHOLE),
            gaze_low=self.gaze_low.clamp_max(-GAZE_FULL_RAD),
            gaze_high=self.gaze_high.clamp_min(GAZE_FULL_RAD),
            look_high=self.look_high.clamp_min(1.0),
        )

    def unlimited(self) -> MotionProfile:
        """The same with the whole range, and eyes that close as usual: for live drivers, whose
        calibration shows a still face."""
        closed = torch.full_like(self.closed, _CLOSED_LIVE)
        return dataclasses.replace(self.whole(), closed=closed)


def rest_state(states: HeadState, names: tuple[str, ...], frame: int | None = None) -> HeadState:
    """The state [] of a person at rest, from states [T].

    Expression: the median over the frames at rest: of those with closed lips (people who are filmed
    mostly talk, and parted lips are no expression's rest) the least expressive quarter. Lids and
    brows, which have nothing to do with lips: the median over all frames. Eyeballs, head and body:
    their means over all frames. ``frame``: all of that frame instead.
    """
    if frame is not None:
        if not 0 <= frame < len(states):
            raise UserError(f"neutral: the driver has frames 0 to {len(states) - 1}, got {frame}")
        return states[frame]
    all_frames = states.expression
    face = torch.tensor([not name.startswith(("eye", "brow")) for name in names])
    activity = all_frames[:, face].square().sum(-1)
    closed = torch.arange(len(states))
    if has_lips(names):
        parted = opening(all_frames, names)
        met = int((parted <= meeting(all_frames, names) + _AJAR_MM).sum())
        closed = parted.argsort(stable=True)[: max(met, round(_CLOSED_MIN_PART * len(states)), 1)]
    quiet = closed[activity[closed].argsort(stable=True)[: max(1, round(_QUIET * len(closed)))]]
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
    expression = _lips(states.expression, expression, driver, avatar, config.strength)
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


def _lips(
    source: Tensor,
    expression: Tensor,
    driver: MotionProfile,
    avatar: MotionProfile,
    strength: float,
) -> Tensor:
    """Lips as far apart as the driver's, each counted from where the own ones meet: closed for
    closed, also where limits or another rest would leave them ajar."""
    names = driver.names
    if not has_lips(names):
        return expression
    wanted = strength * (opening(source, names) - driver.lips_meet) + avatar.lips_meet
    return with_opening(expression, wanted, names, avatar.low, avatar.high)


def _closed(expression: Tensor, names: tuple[str, ...]) -> Tensor:
    """[2] blink coefficients of closed eyes, from a recording [T, E]. Both eyes close together, so
    the one better seen speaks for the other."""
    columns = [names.index(name) for name in BLINKS if name in names]
    blinks = expression[:, columns]
    highest = float(blinks.amax()) if columns else 0.0
    seen = bool(columns) and bool((blinks.amax(0) - blinks.median(0).values).max() >= _BLINK_RISE)
    return expression.new_full((2,), max(_CLOSED_MIN, highest) if seen else _CLOSED_UNSEEN)


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
