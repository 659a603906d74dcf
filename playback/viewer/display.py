"""What the viewer shows: one or two avatars, the sliders, the recording; and the image of it from a
viewpoint."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.player import Player
from likeness.playback.viewer.orbit import Viewpoint, camera_of, image_size
from likeness.playback.viewer.transport import Transport
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import invert_transform


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the panel sets. Replaced as a whole, never changed: two are equal exactly when they are
    the same object.

    sliders: [E] coefficients by the first avatar's names, added to the recording's where that is
    shown. recording: the recording's frames are shown; else the head at rest. still: its head does
    not move. background: colour in [0, 1]. size: pixels along the image's height. tunings: one for
    each avatar.
    """

    sliders: Tensor
    tunings: tuple[ExpressionTuning, ...]
    recording: bool = True
    still: bool = False
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: int = 512


class Display:
    """The shared state of all browsers. Any thread may change it; ``image`` belongs to one
    thread."""

    def __init__(
        self,
        bundles: Sequence[AvatarBundle],
        device: str = "cpu",
        *,
        size: int = 512,
        clamp_views: bool = True,
        refine: bool = True,
        compile: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """bundles: shown side by side; the first one's names are the sliders', its recording moves
        them all. clamp_views: see ``Player.step``. refine: with screen refiners, where there are
        any. compile: see Player."""
        self.device, self._clamp_views = device, clamp_views
        self._refine, self._clock = refine, clock
        self.changed = threading.Condition()
        self._players = [
            Player(bundle, device, refine=refine, compile=compile) for bundle in bundles
        ]
        self._next: AvatarBundle | None = None
        first = self._players[0].bundle
        self.names, self.ranges = first.expression_names, first.expression_range.cpu()
        self.times = first.times
        self.transport = Transport(first.times.tolist())
        tunings = tuple(
            player.bundle.tuning or ExpressionTuning.identity(len(player.bundle.expression_names))
            for player in self._players
        )
        self.settings = Settings(torch.zeros(len(self.names)), tunings, size=size)
        self.generation = 0

    @property
    def bundles(self) -> list[AvatarBundle]:
        return [player.bundle for player in self._players]

    def look_through(self) -> None:
        """Finds now what the recordings show, not when a camera first leaves their views."""
        if self._clamp_views:
            for player in self._players:
                player.clamped.gaussians(progress=True)

    def update(self, **changes: Any) -> None:
        """Replaces some of the settings."""
        with self.changed:
            self.settings = dataclasses.replace(self.settings, **changes)
            self.changed.notify_all()

    def set_slider(self, index: int, value: float) -> None:
        with self.changed:
            sliders = self.settings.sliders.clone()
            sliders[index] = value
            self.update(sliders=sliders)

    def set_tuning(self, avatar: int, tuning: ExpressionTuning) -> None:
        with self.changed:
            tunings = list(self.settings.tunings)
            tunings[avatar] = tuning
            self.update(tunings=tuple(tunings))

    def control(self, action: Callable[[Transport, float], object]) -> None:
        """Does something with the transport at this moment, such as ``lambda t, now:
        t.play(now)``."""
        with self.changed:
            action(self.transport, self._clock())
            self.changed.notify_all()

    def frame(self) -> int:
        """The recording's frame of this moment."""
        with self.changed:
            return self.transport.frame(self._clock())

    def replace_avatar(self, bundle: AvatarBundle) -> None:
        """Shows another avatar in the place of the first, from the next image on: one of the same
        names."""
        with self.changed:
            self._next = bundle
            self.generation += 1
            self.changed.notify_all()

    def expression(self) -> Tensor:
        """The coefficients [E] of this moment, before any tuning."""
        settings = self.settings
        return driven(self.bundles[0], settings, self.frame()).expression

    def with_this_face_at_rest(self, avatar: int) -> ExpressionTuning:
        """The tuning of an avatar whose rest is the face of this moment, with the gains that it
        has."""
        state = driven(self.bundles[0], self.settings, self.frame())
        if avatar:
            state = carried_over(state, self.bundles[0], self.bundles[avatar])
        tuning = self.settings.tunings[avatar]
        return ExpressionTuning(tuning(state).expression, tuning.gains)

    def image(self, view: Viewpoint, settings: Settings, frame: int) -> np.ndarray:
        """The avatars side by side as uint8 [H, W, 3], seen from a viewpoint of the whole."""
        if self._next is not None:
            with self.changed:
                bundle, self._next = self._next, None
            # The next copy of a fit, shown for seconds: to choose an evaluator would take longer
            # than it saves.
            self._players[0] = Player(bundle, self.device, refine=self._refine, evaluation="torch")
        width, height = image_size(settings.size, view.aspect, len(self._players))
        state = driven(self.bundles[0], settings, frame)
        background, images = torch.tensor(settings.background), []
        for number, (player, tuning) in enumerate(zip(self._players, settings.tunings)):
            player.tune(tuning)
            camera = camera_of(view, player.bundle.default_state.T_world_head, width, height)
            own = carried_over(state, self.bundles[0], player.bundle) if number else state
            output = player.step(own, camera, background, clamp_views=self._clamp_views)
            images.append(output.rgb)
        whole = torch.cat(images, 1)
        return (whole.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def driven(bundle: AvatarBundle, settings: Settings, frame: int) -> HeadState:
    """The state of settings and a frame of the recording, for the avatar whose names they use."""
    rest = bundle.default_state.to("cpu")
    state = bundle.recording[frame].to("cpu") if settings.recording else rest
    if settings.still:
        poses = {"T_world_head": rest.T_world_head, "T_world_body": rest.T_world_body}
        state = dataclasses.replace(state.without_secondary_motion(), **poses)
    # Sliders add to the recording, up to 1 or where the recording went further.
    expression = torch.minimum(state.expression + settings.sliders, state.expression.clamp_min(1))
    return dataclasses.replace(state, expression=expression)


def carried_over(state: HeadState, source: AvatarBundle, target: AvatarBundle) -> HeadState:
    """A state of one avatar for another: coefficients and joints by name, motion from its own rest.
    What the source does not have stays at rest; secondary motion is kept where both were made
    of one video."""
    rest = target.default_state.to("cpu")
    expression, joints = rest.expression.clone(), rest.joints.clone()
    for index, name in enumerate(target.expression_names):
        if name in source.expression_names:
            expression[index] = state.expression[source.expression_names.index(name)]
    for index, name in enumerate(target.joint_names):
        if name in source.joint_names:
            joints[index] = state.joints[source.joint_names.index(name)]
    move = rest.T_world_head @ invert_transform(source.default_state.T_world_head.to("cpu"))
    carried = HeadState(expression, joints, move @ state.T_world_head, move @ state.T_world_body)
    if not torch.equal(source.times, target.times):
        return carried
    return dataclasses.replace(carried, secondary_motion=state.secondary_motion)
