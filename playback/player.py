"""The player: an avatar bundle that turns head states into pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fitting.bundle import AvatarBundle
from renderers import create
from renderers.output import RenderOutput
from scene.camera import Camera
from scene.head_state import HeadState


class Player:
    """Plays one bundle on one device. Builds no gradients."""

    def __init__(self, bundle: AvatarBundle | Path | str, device: str = "cpu", renderer: str = "auto") -> None:
        """bundle: a loaded bundle or its folder. renderer: a name in RENDERERS, or the best one for the device."""
        self.bundle = bundle if isinstance(bundle, AvatarBundle) else AvatarBundle.load(Path(bundle))
        self.device = torch.device(device)
        self.avatar = self.bundle.avatar.to(self.device).eval()
        self.avatar.warm_up()
        self.renderer = create(renderer, device)
        self.camera = self.bundle.default_camera.to(self.device)

    @torch.no_grad()
    def step(
        self, state: HeadState, camera: Camera | None = None, background: Tensor | None = None, *, depth: bool = False
    ) -> RenderOutput:
        """The picture of one state (unbatched) by a camera of the world; the bundle's own camera if none is given.

        background: a colour [3] or picture [H, W, 3] that is put behind; then alpha is 1. Without one the colour
        stays premultiplied. depth: also the expected depth in metres.
        """
        state = state.to(self.device)
        camera = self.camera if camera is None else camera.to(self.device)
        in_head = camera.in_frame(state.T_world_head)
        output = self.renderer.render(self.avatar(state, in_head.center), in_head, depth=depth)
        if background is None:
            return output
        return RenderOutput(output.over(background.to(self.device)), torch.ones_like(output.alpha), output.depth)
