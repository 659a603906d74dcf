"""Fits an avatar that was unprojected from few images to these images, and keeps what they do not
show.

Colours and opacities may change, and Gaussians move by millimetres and grow by a third at most; all
are drawn back to where they started. What an image does not show keeps its place, since it has no
gradient.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.ops import image_loss, ssim
from likeness.ops.harmonics import C0
from likeness.renderers import Renderer
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from likeness.scene.to_device import to_device


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Limits of the change. The values are those at which views of synthetic subjects 30 degrees to
    the side, which the image did not show, gained a little rather than lost."""

    max_translation_m: float = 1.0e-3
    """Farthest that a Gaussian moves."""
    max_log_scale: float = 0.3
    """Largest change of a log-scale."""
    rates: tuple[float, float, float, float] = (4e-3, 2e-2, 2e-2, 2e-2)
    """Steps in colour, opacity logit, and parts of the two limits."""
    hold: float = 2e-3
    """Weight of the mean square of translations and log-scale changes, in parts of their limits."""
    dssim: float = 0.2
    """Weight of 1 - SSIM against 1 - this of L1."""
    matte: float = 0.2
    """Weight of the difference of alpha and matte."""
    min_visibility: float = 0.08
    """Gaussians that the images show less than this stay as they are: what shines through is no
    evidence."""


_DILATION = 0.3  # square pixels that rasterizers add to a Gaussian's footprint

FREEDOM = ("colors", "opacity_logits", "means", "log_scales")
"""What is fitted: an avatar must have them all as parameters of its Gaussians."""


def can_finetune(avatar: AvatarModel) -> bool:
    return all(name in avatar.per_gaussian for name in FREEDOM)


def finetune(
    avatar: AvatarModel,
    capture: Capture,
    frames: FrameStore,
    renderer: Renderer,
    seconds: float,
    seed: int = 0,
    config: FinetuneConfig = FinetuneConfig(),
    progress: bool = True,
) -> int:
    """Fits in place for so many seconds; returns the steps taken. Raises ValueError for an avatar
    without the parameters of FREEDOM."""
    from tqdm import tqdm

    device = next(avatar.parameters()).device
    if device.type == "cpu":
        image_loss.compile_kernels()
    if not can_finetune(avatar):
        raise ValueError(f"finetune: an avatar of kind {avatar.kind} has not all of {FREEDOM}")
    start = {name: avatar.per_gaussian[name].detach().clone() for name in FREEDOM}
    free = {name: torch.zeros_like(value, requires_grad=True) for name, value in start.items()}
    groups = [{"params": [free[name]], "lr": rate} for name, rate in zip(FREEDOM, config.rates)]
    optimizer = torch.optim.Adam(groups, eps=1e-12)
    states, cameras = capture.states.to(device), capture.cameras.to(device)
    visible = visibility(avatar, renderer, states, cameras, capture.train) > config.min_visibility
    generator, start_s, steps = torch.Generator().manual_seed(seed), time.monotonic(), 0
    with tqdm(total=round(seconds), desc="refining", unit="s", disable=not progress) as bar:
        while (spent := time.monotonic() - start_s) < seconds:
            bar.update(round(min(spent, seconds)) - bar.n)
            index = capture.train[steps % len(capture.train)]
            view, target = (states[index], cameras[index]), frames.get(index)
            (background,) = to_device((torch.rand(3, generator=generator),), device)
            values = _values(start, free, config)
            loss = _loss(avatar, values, *view, target, background, renderer, config)
            for name in ("means", "log_scales"):
                loss = loss + config.hold * torch.tanh(free[name]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for tensor in free.values():
                assert tensor.grad is not None
                tensor.grad[~visible] = 0
            optimizer.step()
            steps += 1
        bar.update(round(seconds) - bar.n)
    with torch.no_grad():
        for name, value in _values(start, free, config).items():
            avatar.per_gaussian[name].copy_(value)
    return steps


def _values(
    start: dict[str, Tensor], free: dict[str, Tensor], config: FinetuneConfig
) -> dict[str, Tensor]:
    """The parameters at what is free, within their limits."""
    return {
        "colors": start["colors"] + free["colors"],
        "opacity_logits": start["opacity_logits"] + free["opacity_logits"],
        "means": start["means"] + config.max_translation_m * torch.tanh(free["means"]),
        "log_scales": start["log_scales"] + config.max_log_scale * torch.tanh(free["log_scales"]),
    }


def _loss(
    avatar: AvatarModel,
    values: dict[str, Tensor],
    state: HeadState,
    camera: Camera,
    target: tuple[Tensor, Tensor],
    background: Tensor,
    renderer: Renderer,
    config: FinetuneConfig,
) -> Tensor:
    in_head = camera.in_frame(state.T_world_head)
    named = {f"per_gaussian.{name}": value for name, value in values.items()}
    cloud = torch.func.functional_call(avatar, named, (state, in_head.center))
    output = renderer.render(cloud, in_head)
    colour, matte = target
    truth, image = colour * matte + (1 - matte) * background, output.over(background)
    l1, dssim = torch.nn.functional.l1_loss(image, truth), ssim.dssim(image, truth)
    fit = (1 - config.dssim) * l1 + config.dssim * dssim
    return fit + config.matte * torch.nn.functional.l1_loss(output.alpha, matte)


def visibility(
    avatar: AvatarModel,
    renderer: Renderer,
    states: HeadState,
    cameras: Camera,
    indices: Sequence[int],
    masks: Sequence[Tensor] | None = None,
) -> Tensor:
    """[N] in [0, 1]: the share of each Gaussian that some frame shows, the rest being occluded or
    outside.

    states, cameras: [T], on the avatar's device. masks: per index the pixels [H, W] that count (0
    or 1), all if None.

    The blending weights of a Gaussian, summed over the image, are the derivative of the image's sum
    with respect to its colour; without occlusion they would be its opacity times its area in the
    image.
    """
    share = torch.zeros(avatar.num_gaussians, device=states.expression.device)
    for number, index in enumerate(indices):
        camera = cameras[index].in_frame(states[index].T_world_head)
        with torch.no_grad():
            cloud = avatar(states[index], camera.center)
        # grey 0.5: nothing is clamped
        colours = torch.zeros_like(cloud.sh[..., :1, :]).requires_grad_()
        output = renderer.render(dataclasses.replace(cloud, sh=colours), camera)
        red = output.rgb[..., 0] if masks is None else output.rgb[..., 0] * masks[number]
        weights = torch.autograd.grad(red.sum(), colours)[0][:, 0, 0] / C0
        _, depth = camera.project(cloud.means)
        radii = camera.K[0, 0] * cloud.scales / depth[:, None].clamp_min(1e-3)
        pixels = radii.square() + _DILATION
        # of the two larger axes: seen from the front
        area = 2 * torch.pi * pixels.sort(-1).values[:, 1:].prod(-1).sqrt()
        alone = (cloud.opacities * area).clamp_min(1e-6)
        share = torch.maximum(share, (weights / alone).clamp(0, 1))
    return share
