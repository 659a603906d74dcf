"""Follows a fit in progress: now and then a copy of the avatar goes from the fit to the viewer.

The fit pays for the copies, and only while a browser is connected; the viewer's thread renders.
Both keep to a share of the time, so that the fit is slowed by a few percent at most.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import torch

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.bundle import AvatarBundle
from likeness.playback.viewer.display import Display
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
        self.viewer: Viewer | None = None

    def listener(self, text: str) -> FollowedFit:
        """A listener of the fit called ``text``."""
        return FollowedFit(self, text)

    def open(self, avatar: AvatarModel) -> Viewer:
        """The viewer, started where it does not run."""
        if self.viewer is None:
            bundle = AvatarBundle.from_fit(avatar.duplicate(torch.clone), self._capture, {})
            # Clamping views would take time from the fit, with every copy anew.
            display = Display([bundle], self._device, size=_SIZE, clamp_views=False)
            name = self._capture.root.parent.name
            self.viewer = Viewer(display, [name], *self._address, share=_RENDER_SHARE)
            log.info("look at the fit: %s", " or ".join(self.viewer.urls))
        return self.viewer

    def show(self, viewer: Viewer, avatar: AvatarModel, text: str) -> None:
        """Shows a copy of the avatar as it is now."""
        bundle = dataclasses.replace(
            viewer.display.bundles[0], avatar=avatar.duplicate(torch.clone)
        )
        viewer.display.replace_avatar(bundle)
        viewer.panel.say(text)

    def stop(self) -> None:
        if self.viewer is not None:
            self.viewer.stop()


class FollowedFit:
    """A listener of one fit. When the viewer breaks, that is logged, and the fit continues without
    it."""

    def __init__(self, follower: FitFollower, text: str) -> None:
        self._follower, self._text, self._due = follower, text, 0.0
        self._broken = False

    def on_step(self, info: Any, avatar: AvatarModel) -> None:
        """info: the StepInfo of the training loop."""
        viewer = self._follower.open(avatar)
        if self._is_broken(viewer) or time.monotonic() < self._due or not viewer.watched:
            return
        start = time.monotonic()
        text = (
            f"{self._text}: {100 * info.fraction:.0f} %, step {info.step}, {info.figures.psnr:.1f} "
            f"dB on the last training frame, {info.num_gaussians} Gaussians"
        )
        self._follower.show(viewer, avatar, text)
        now = time.monotonic()
        self._due = now + max((now - start) / _COPY_SHARE, _MIN_S)

    def on_end(self, avatar: AvatarModel) -> None:
        viewer = self._follower.viewer
        if viewer is not None and viewer.watched and not self._is_broken(viewer):
            self._follower.show(viewer, avatar, f"{self._text}: done")

    def _is_broken(self, viewer: Viewer) -> bool:
        if viewer.error is not None and not self._broken:
            log.error("the viewer has ended, the fit continues without it", exc_info=viewer.error)
            self._broken = True
        return viewer.error is not None
