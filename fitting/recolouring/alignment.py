"""Lays an avatar over a picture: the head pose made right to the pixel, by outlines and features,
not colours."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.ops.deform import deform
from likeness.renderers import Renderer
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

_RATE, _METRES = 2e-3, 0.1  # radians and this many metres per step of Adam; it falls to a tenth
_LUMA = (0.299, 0.587, 0.114)
_MATTE_WEIGHT = 0.3


def align(
    bundle: AvatarBundle,
    renderer: Renderer,
    state: HeadState,
    camera: Camera,
    target: tuple[Tensor, Tensor],
    steps: int = 60,
) -> HeadState:
    """The state [] with head and body moved together so that the avatar lies over a picture.

    target: colour [H, W, 3] and matte [H, W, 1]. What is compared is the detail of the luminance
    (its local mean removed) and the matte, so that another colour of hair or lips does not move the
    head.
    """
    colour, matte = target
    in_head = camera.in_frame(state.T_world_head)
    with torch.no_grad():
        cloud = bundle.avatar(bundle.tuned(state), in_head.center)
    truth = _detail(colour * matte + 1 - matte)
    pose = torch.zeros(6, device=truth.device, requires_grad=True)
    white = torch.ones(3, device=truth.device)
    optimizer = torch.optim.Adam([pose], lr=_RATE)
    best, best_pose = float("inf"), pose.detach().clone()
    for step in range(steps + 1):
        moved = deform(cloud, T_head=_transform(pose))
        output = renderer.render(moved, in_head)
        loss = (_detail(output.over(white)) - truth).abs().mean()
        loss = loss + _MATTE_WEIGHT * (output.alpha - matte).abs().mean()
        value = float(loss.detach())
        if value < best:
            best, best_pose = value, pose.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = _RATE * 0.1 ** (step / max(steps, 1))
        optimizer.step()
    delta = _transform(best_pose)
    body = state.T_world_head @ delta @ torch.linalg.inv(state.T_world_head) @ state.T_world_body
    return dataclasses.replace(state, T_world_head=state.T_world_head @ delta, T_world_body=body)


def _transform(pose: Tensor) -> Tensor:
    return make_transform(rotvecs_to_matrices(pose[:3]), pose[3:] * _METRES)


def _detail(image: Tensor) -> Tensor:
    """[1, 1, H, W] luminance of an image [H, W, 3] less its mean around each pixel."""
    from kornia.filters import gaussian_blur2d

    luma = (image @ image.new_tensor(_LUMA))[None, None]
    return luma - gaussian_blur2d(luma, (11, 11), (1.5, 1.5), "replicate")
