"""Where the recording's image ends, the bust ends softly.

What lies outside of all frames is neither seen nor constrained, and an avatar that ends at the
image's border ends as if cut with a knife, or in what chance left there. So Gaussians become
transparent over a few centimetres just outside of what the frames show on average: each by one
factor, in its own opacity, which films, pages and exported files then all have.
"""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.scene.capture import Capture

_WIDTH_M = 0.02
"""Over which opacities fall to nothing."""
_FRAMES = 24
_GONE = 1e-5


@torch.no_grad()
def fade_border(avatar: AvatarModel, capture: Capture) -> None:
    """Lowers the opacities of an avatar's Gaussians beyond the border of the training frames, in
    place. Nothing for avatars whose Gaussians have no opacities of their own."""
    logits = avatar.base_opacities()
    if logits is None:
        return
    share = shares(outside(avatar, capture))
    opacities = torch.sigmoid(logits)
    logits.copy_(torch.logit((opacities * share).clamp_min(_GONE)).minimum(logits))


def shares(outside_m: Tensor) -> Tensor:
    """What is left of opacities [N] at distances [N] in metres outside of the image: all up to
    its border, nothing from 2 cm on."""
    t = (outside_m / _WIDTH_M).clamp(0, 1)
    return 1 - t * t * (3 - 2 * t)


def outside(avatar: AvatarModel, capture: Capture) -> Tensor:
    """[N] metres by which Gaussians lie outside of the frames, at their own depth, on average over
    training frames; negative inside."""
    count = min(_FRAMES, len(capture.train))
    places = torch.linspace(0, len(capture.train) - 1, count).round().long().tolist()
    device = avatar.per_gaussian["means"].device
    total = torch.zeros(avatar.num_gaussians, device=device)
    for place in places:
        frame = capture.frames[capture.train[place]]
        state = frame.state.to(device)
        camera = frame.camera.to(device).in_frame(state.T_world_head)
        pixels, depth = camera.project(avatar(state, camera.center).means)
        size = pixels.new_tensor([camera.width, camera.height])
        focal = camera.K.diagonal()[:2]
        beyond = torch.maximum(-pixels, pixels - size) / focal * depth[:, None]
        total += beyond.amax(-1)
    return total / count
