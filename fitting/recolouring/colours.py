"""What an edited picture shows in other colours, as offsets of the Gaussians' own colours."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.finetune import visibility
from likeness.fitting.recolouring.alignment import align
from likeness.ops.harmonics import C0
from likeness.renderers import create
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState

_UNEDITED = 0.3
"""Part of a person that no edit is expected to change."""


@dataclasses.dataclass(frozen=True)
class RecolourConfig:
    """What counts as an edit, and how it is carried on. Lengths in pixels are of a picture of
    512."""

    min_change: float = 0.05
    """A smoothed change of colour below this always counts as the avatar's own error,"""
    error_factor: float = 3.0
    """and so does one below this many times the change over the part that differs least,"""
    max_error: float = 0.12
    """but never one of this size."""
    blur_px: float = 4.0
    """Deviation of that smoothing."""
    edge_px: float = 3.0
    """Within this of either outline nothing is compared."""
    steps: int = 80
    """Steps of Adam on the colours."""
    rate: float = 0.03
    """Their size, in units of colour."""
    ridge: float = 1e-4
    """Weight of the mean square of all changes: what the picture does not ask for does not
    change."""
    min_visibility: float = 0.05
    """Gaussians that the picture shows less than this take their change from others."""
    near_m: float = 0.06
    """Distance over which changes are propagated,"""
    alike: float = 0.08
    """and difference of the colours before."""


@dataclasses.dataclass(frozen=True)
class Recoloured:
    """bundle: the new one. states: [T] where the avatar lies over each picture. figures: plain
    values for the run."""

    bundle: AvatarBundle
    states: HeadState
    figures: dict[str, Any]


def check_recolourable(bundle: AvatarBundle, where: str) -> None:
    """Raises UserError for an avatar whose Gaussians have no colours of their own."""
    if bundle.avatar.base_colours() is None:
        raise UserError(
            f"{where}: its avatar ({bundle.avatar.kind}) has no colours of single Gaussians to "
            "change: a network gives them all; an edited image can be carried into avatars of "
            "the kinds rigged, linear, and headgas with headgas.base_appearance (the default "
            "preset)"
        )


def recolour(
    bundle: AvatarBundle,
    capture: Capture,
    *,
    device: str = "cpu",
    config: RecolourConfig = RecolourConfig(),
) -> Recoloured:
    """A copy of an avatar with the colours that the training pictures of a capture show; the given
    one is not changed.

    The capture is one of the avatar's own head, by its identity. Raises UserError as
    ``check_recolourable`` does.
    """
    check_recolourable(bundle, str(capture.root))
    avatar = bundle.avatar.duplicate(lambda tensor: tensor.to(device).clone())
    bundle = dataclasses.replace(bundle, avatar=avatar)
    renderer = create("auto", device)
    renderer.warm_up()
    frames = FrameStore(capture, capture.train, device)
    states, cameras = capture.states.to(device), capture.cameras.to(device)
    targets: list[_Target] = []
    figures = []
    for index in capture.train:
        state = align(bundle, renderer, states[index], cameras[index], frames.get(index))
        target, facts = _target(bundle, renderer, state, cameras[index], frames.get(index), config)
        targets.append(target)
        figures.append(facts)
    stacked = HeadState.stack([target.state for target in targets])
    seen_by = Camera.stack([target.camera for target in targets])
    masks = [target.inside for target in targets]
    indices = range(len(targets))
    share = visibility(avatar, renderer, bundle.tuned(stacked), seen_by, indices, masks)
    visible = share > config.min_visibility
    change = _solve(bundle, renderer, targets, visible, config)
    before = _colours_of(bundle, stacked[0])
    change = _propagated(change, visible, avatar.per_gaussian["means"].detach(), before, config)
    base = avatar.base_colours()
    assert base is not None  # check_recolourable
    with torch.no_grad():
        base.add_(change / C0)
    moved = change.norm(dim=-1) > config.min_change
    summary = {
        "pictures": figures,
        "gaussians_changed": int(moved.sum()),
        "of_them_shown": int((moved & visible).sum()),
        "gaussians": avatar.num_gaussians,
    }
    return Recoloured(bundle, stacked.to("cpu"), summary)


@dataclasses.dataclass(frozen=True)
class _Target:
    """What the avatar should look like at a state [] by a camera of the world: picture [H, W, 3] on
    white, as far as ``inside`` [H, W] is 1 (elsewhere, at the outlines, nothing is known)."""

    state: HeadState
    camera: Camera
    picture: Tensor
    inside: Tensor


def _render(bundle: AvatarBundle, renderer, state: HeadState, camera: Camera):
    in_head = camera.in_frame(state.T_world_head)
    return renderer.render(bundle.avatar(bundle.tuned(state), in_head.center), in_head)


@torch.no_grad()
def _colours_of(bundle: AvatarBundle, state: HeadState) -> Tensor:
    """[N, 3] the Gaussians' constant colours at a state."""
    eye = torch.tensor([0.0, 0.0, 1.0], device=state.expression.device)
    return bundle.avatar(bundle.tuned(state), eye).sh[:, 0] * C0 + 0.5


@torch.no_grad()
def _target(
    bundle: AvatarBundle,
    renderer,
    state: HeadState,
    camera: Camera,
    picture: tuple[Tensor, Tensor],
    config: RecolourConfig,
) -> tuple[_Target, dict[str, Any]]:
    """The avatar itself, and the picture where that was edited; and facts about the edit."""
    import cv2

    colour, matte = (tensor.cpu().numpy() for tensor in picture)
    output = _render(bundle, renderer, state, camera)
    own = output.over(torch.ones(3, device=output.rgb.device)).cpu().numpy()
    alpha = output.alpha[..., 0].cpu().numpy()
    unit = camera.width / 512
    both = ((alpha > 0.95) & (matte[..., 0] > 0.95)).astype(np.uint8)
    both = np.pad(both, 1, mode="edge")
    inside = cv2.distanceTransform(both, cv2.DIST_L2, 3)[1:-1, 1:-1] > config.edge_px * unit
    if not inside.any():
        raise UserError(
            "--base: the edited image and the avatar do not lie over each other; give an image "
            "of the same person, the face from the front or half from the side"
        )
    gain, difference, size = _compared(own, colour, inside, config.blur_px * unit)
    usual = float(np.quantile(size[inside], _UNEDITED))
    limit = float(np.clip(config.error_factor * usual, config.min_change, config.max_error))
    edited = np.clip(size / limit - 1, 0, 1)[..., None] * inside[..., None]
    facts = {
        "edited_share": round(float((edited[..., 0] > 0.5).sum() / inside.sum()), 4),
        "limit": round(limit, 4),
        "light": [round(float(value), 4) for value in gain],
    }
    target = torch.from_numpy((own + edited * difference).astype(np.float32)).to(output.rgb.device)
    mask = torch.from_numpy(inside.astype(np.float32)).to(target)
    return _Target(state, camera, target, mask), facts


def _compared(
    own: np.ndarray, colour: np.ndarray, inside: np.ndarray, blur: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The light [3] that the picture's colours are to be multiplied by, the difference [H, W, 3]
    that is left, and its size [H, W] when smoothed. The light is that of the part of the person
    that differs least: it was not edited."""
    import cv2

    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), blur)
    chosen, gain = inside, np.ones(3)
    for _ in range(3):
        gain = np.median((own[chosen] + 0.02) / (colour[chosen] + 0.02), 0).clip(0.5, 2.0)
        difference = ((colour * gain - own) * inside[..., None]).astype(np.float32)
        smooth = cv2.GaussianBlur(difference, (0, 0), blur) / np.maximum(weight, 1e-3)[..., None]
        size = np.linalg.norm(smooth, axis=-1)
        chosen = inside & (size <= np.quantile(size[inside], _UNEDITED))
    return gain, difference, size


def _solve(
    bundle: AvatarBundle, renderer, targets: list[_Target], visible: Tensor, config: RecolourConfig
) -> Tensor:
    """Changes of colour [N, 3] of the Gaussians that are visible, under which the avatar looks like
    the targets."""
    clouds = []
    for target in targets:
        in_head = target.camera.in_frame(target.state.T_world_head)
        with torch.no_grad():
            clouds.append((bundle.avatar(bundle.tuned(target.state), in_head.center), in_head))
    change = torch.zeros(len(visible), 3, device=clouds[0][0].means.device, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=config.rate)
    for step in range(config.steps):
        (cloud, camera), target = clouds[step % len(clouds)], targets[step % len(targets)]
        sh = torch.cat([cloud.sh[:, :1] + change[:, None] / C0, cloud.sh[:, 1:]], 1)
        picture = renderer.render(dataclasses.replace(cloud, sh=sh), camera).over(
            torch.ones_like(target.picture[0, 0])
        )
        wrong = (picture - target.picture) * target.inside[..., None]
        loss = wrong.square().mean() * 100 + config.ridge * change.square().mean() * 100
        optimizer.zero_grad()
        loss.backward()
        assert change.grad is not None
        change.grad[~visible] = 0
        optimizer.param_groups[0]["lr"] = config.rate * 0.05 ** (step / config.steps)
        optimizer.step()
    return change.detach()


def _propagated(
    change: Tensor,
    visible: Tensor,
    means: Tensor,
    colours: Tensor,
    config: RecolourConfig,
    count: int = 24,
) -> Tensor:
    """The changes [N, 3], those of hidden Gaussians taken from visible ones that are near and of
    their colour."""
    from scipy.spatial import KDTree

    if visible.all() or not visible.any():
        return change
    features = torch.cat([means / config.near_m, colours / config.alike], -1).cpu().numpy()
    known = visible.cpu().numpy()
    tree = KDTree(features[known])
    distance, index = tree.query(features[~known], k=min(count, int(known.sum())))
    distance, index = (np.asarray(x).reshape(int((~known).sum()), -1) for x in (distance, index))
    nearest = distance.min(1, keepdims=True)
    weights = np.exp(-0.5 * (distance**2 - nearest**2))
    weights /= weights.sum(1, keepdims=True)
    given = (weights[..., None] * change.cpu().numpy()[known][index]).sum(1)
    out = change.clone()
    reach = np.clip(1.5 - nearest / 4, 0, 1)  # whole within two deviations, nothing beyond six
    out[~visible] = torch.from_numpy((given * reach).astype(np.float32)).to(out)
    return out
