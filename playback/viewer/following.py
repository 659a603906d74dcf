"""Follows a fit in progress: now and then a copy of the avatar goes from the fit to the viewer.

The fit pays for the copies, and only while somebody looks; the viewer's thread renders. Both keep
to a share of the time, so that the fit is held up by a few percent at most.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import torch

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.bundle import AvatarBundle
from likeness.playback.viewer.show import Show
from likeness.playback.viewer.viewer import Viewer
from likeness.scene.capture import Capture

log = logging.getLogger(__name__)

_COPY_SHARE, _RENDER_SHARE = 0.01, 0.03
_MIN_S = 1.0  # seconds between copies
_SIZE = 384


class FitFollower:
    """A viewer of the fits of one run. It starts with the first step of the first one."""

    def __init__(self, capture: Capture, device: str, host: str, port: int) -> None:
        self._capture, self._device, self._address = capture, device, (host, port)
        self._bundle: AvatarBundle | None = None
        self.viewer: Viewer | None = None

    def listener(self, text: str) -> FollowedFit:
        """What is to listen to a fit that people call ``text``."""
        return FollowedFit(self, text)

    def open(self, avatar: AvatarModel) -> None:
        """Starts the viewer, unless it runs."""
        if self.viewer is None:
            self._bundle = AvatarBundle.from_fit(avatar.duplicate(torch.clone), self._capture, {})
            # To clamp its views would take time from the fit, with every copy anew.
            show = Show([self._bundle], self._device, size=_SIZE, clamp_views=False)
            self.viewer = Viewer(
                show, [self._capture.root.parent.name], *self._address, share=_RENDER_SHARE
            )
            log.info("look at the fit: %s", " or ".join(self.viewer.urls))

    @property
    def watched(self) -> bool:
        """Whether a copy would be seen."""
        return self.viewer is not None and self.viewer.watched

    def show(self, avatar: AvatarModel, text: str) -> None:
        """Shows a copy of the avatar as it is now."""
        self.viewer.show.replace_avatar(
            dataclasses.replace(self._bundle, avatar=avatar.duplicate(torch.clone))
        )
        self.viewer.panel.say(text)

    def stop(self) -> None:
        if self.viewer is not None:
            self.viewer.stop()


class FollowedFit:
    """A listener of one fit. When the viewer breaks, that is said, and the fit goes on without
    it."""

    def __init__(self, follower: FitFollower, text: str) -> None:
        self._follower, self._text, self._due = follower, text, 0.0
        self._broken = False

    def on_step(self, info: Any, avatar: AvatarModel) -> None:
        """info: what the training loop tells its listeners."""
        self._follower.open(avatar)
        if self._is_broken() or time.monotonic() < self._due or not self._follower.watched:
            return
        begun = time.monotonic()
        self._follower.show(
            avatar,
            (
                f"{self._text}: {100 * info.fraction:.0f} %, step {info.step}, "
                f"{info.figures.psnr:.1f} dB on the last training frame, {info.num_gaussians} "
                "Gaussians"
            ),
        )
        now = time.monotonic()
        self._due = now + max((now - begun) / _COPY_SHARE, _MIN_S)

    def on_end(self, avatar: AvatarModel) -> None:
        if self._follower.watched and not self._is_broken():
            self._follower.show(avatar, f"{self._text}: done")

    def _is_broken(self) -> bool:
        error = self._follower.viewer.error
        if error is not None and not self._broken:
            log.error("the viewer has ended, the fit goes on without it", exc_info=error)
            self._broken = True
        return self._broken
