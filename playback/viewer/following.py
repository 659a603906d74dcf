"""Follows a fit in progress: now and then a copy of the avatar goes from the fit to the viewer.

The fit pays for the copies, and only while somebody looks; the viewer's thread renders. Both keep to a share of the
time, so that the fit is held up by a few percent at most.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import torch

from fitting.avatars import AvatarModel
from fitting.bundle import AvatarBundle
from playback.viewer.show import Show
from playback.viewer.viewer import Viewer
from scene.capture import Capture

log = logging.getLogger(__name__)

_COPY_SHARE, _RENDER_SHARE = 0.01, 0.03
_LEAST_S = 1.0  # seconds between copies
_SIZE = 384


class FitFollower:
    """A viewer of the fits of one run. It starts with the first step of the first one."""

    def __init__(self, capture: Capture, device: str, host: str, port: int) -> None:
        self._capture, self._device, self._address = capture, device, (host, port)
        self._template: AvatarBundle | None = None
        self.viewer: Viewer | None = None

    def listener(self, text: str) -> FollowedFit:
        """What is to listen to a fit that people call ``text``."""
        return FollowedFit(self, text)

    def show(self, avatar: AvatarModel, text: str) -> None:
        """Shows a copy of the avatar as it is now."""
        copied = avatar.duplicate(torch.clone)
        if self._template is None:
            self._template = AvatarBundle.from_fit(copied, self._capture, {})
        bundle = dataclasses.replace(self._template, avatar=copied)
        if self.viewer is None:
            show = Show([bundle], self._device, size=_SIZE)
            self.viewer = Viewer(show, [self._capture.root.parent.name], *self._address, share=_RENDER_SHARE)
            log.info("look at the fit: %s", self.viewer.url)
        else:
            self.viewer.show.replace_avatar(bundle)
        self.viewer.panel.say(text)

    @property
    def watched(self) -> bool:
        """Whether a copy would be seen; the very first one brings the viewer about."""
        return self.viewer is None or self.viewer.watched

    def stop(self) -> None:
        if self.viewer is not None:
            self.viewer.stop()


class FollowedFit:
    """A listener of one fit."""

    def __init__(self, follower: FitFollower, text: str) -> None:
        self._follower, self._text, self._due = follower, text, 0.0

    def on_step(self, info: Any, avatar: AvatarModel) -> None:
        """info: what the training loop tells its listeners."""
        if time.monotonic() < self._due or not self._follower.watched:
            return
        begun = time.monotonic()
        self._follower.show(avatar, (
            f"{self._text}: {100 * info.fraction:.0f} %, step {info.step}, {info.psnr:.1f} dB on the last training "
            f"frame, {info.num_gaussians} Gaussians"
        ))  # fmt: skip
        now = time.monotonic()
        self._due = now + max((now - begun) / _COPY_SHARE, _LEAST_S)

    def on_end(self, avatar: AvatarModel) -> None:
        if self._follower.viewer is not None and self._follower.watched:
            self._follower.show(avatar, f"{self._text}: done")
