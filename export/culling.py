"""Leaves out Gaussians that no image misses: hidden within the head, or too faint to tell.

Compositing is linear in each Gaussian's opacity o: without it the image I changes by o ∂I/∂o. For
random signs r over the pixels the expectation of (rᵀ o ∂I/∂o)² is the sum of that change's squares
(Hutchinson's estimator), for all Gaussians at once by one backward pass.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from tqdm import tqdm

from likeness.export.fidelity import agreement, some
from likeness.export.sampling import teaching_states
from likeness.export.sensitivity import orbited, reduced
from likeness.fitting.bundle import AvatarBundle
from likeness.renderers import create
from likeness.scene.head_state import HeadState

FACT = "culled"
SHARES = (0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
"""Of the Gaussians: the largest is left out that keeps to MIN_DB."""
MIN_DB = {"front": 52.0, "acted": 48.0, "side": 52.0, "around": 42.0}
"""Agreement with the images of all Gaussians, from where the camera stood, there with expressions
alone and at their
strongest, from some 30 degrees beside it, and from anywhere else: what nobody filmed is a guess to
    begin with."""

_PROBES = 96
# radians of yaw and pitch
_REACH = {"front": (0.0, 0.0), "side": (0.7, 0.35), "around": (math.pi, 0.5)}
_VIEWS = {
    "front": ((0.0, 0.0),),
    "acted": ((0.0, 0.0),),
    "side": ((-0.5, 0.1), (0.5, -0.1)),
    "around": ((-1.6, 0.1), (1.6, -0.1), (3.1, 0.2)),
}
_ACTED = 12  # states of them


def culled(bundle: AvatarBundle, progress: bool = False, seed: int = 0) -> AvatarBundle:
    """The bundle without the Gaussians that matter least in images of it, as many as MIN_DB
    allows; itself where that is hardly any, or where it was culled before."""
    if FACT in bundle.facts:
        return bundle
    sample = teaching_states(bundle, seed=seed)
    with tqdm(
        desc="culling", total=_PROBES, unit="image", disable=not progress, leave=False
    ) as bar:
        errors = removal_errors(bundle, sample.taught, seed, bar.update)
    order, count = errors.argsort(), len(errors)
    front, acted = some(sample.test), _acted(bundle, sample.taught)
    shots = {"front": front, "acted": acted if len(acted) else front}
    expected = _images(bundle, shots)
    for share in SHARES:
        rest = order[int(share * count) :].sort().values
        trial = dataclasses.replace(bundle, avatar=bundle.avatar.subset(rest))
        rendered = _images(trial, shots)
        psnr = {name: agreement(rendered[name], expected[name]) for name in MIN_DB}
        if all(psnr[name] >= least for name, least in MIN_DB.items()):
            fact = {
                "of": count,
                "left_out": count - len(rest),
                "psnr": {k: round(v, 2) for k, v in psnr.items()},
            }
            return dataclasses.replace(trial, facts={**bundle.facts, FACT: fact})
    return bundle


def removal_errors(bundle: AvatarBundle, states: HeadState, seed: int = 0, progress=None) -> Tensor:
    """Mean squared change [N] of images when one Gaussian is left out, over probes among states
    [T]: from where the camera stood, from beside that, and from anywhere, a third each."""
    generator = torch.Generator().manual_seed(seed)
    renderer, camera, white = create("cpu"), reduced(bundle.default_camera), torch.ones(3)
    chosen = torch.linspace(0, len(states) - 1, _PROBES).round().long().tolist()
    total = torch.zeros(bundle.avatar.num_gaussians)
    for index, (yaw, pitch) in zip(chosen, list(_REACH.values()) * _PROBES):
        u, v = (2 * torch.rand(2, generator=generator) - 1).tolist()
        view = orbited(camera.in_frame(states[index].T_world_head), yaw * u, pitch * v)
        with torch.no_grad():
            cloud = bundle.avatar(states[index], view.center)
        opacities = cloud.opacities.clone().requires_grad_()
        image = renderer.render(dataclasses.replace(cloud, opacities=opacities), view).over(white)
        signs = (torch.randint(2, image.shape, generator=generator) * 2 - 1).to(image)
        (gradient,) = torch.autograd.grad((image * signs).sum(), opacities)
        total += (gradient * cloud.opacities).square() / image.numel()
        if progress is not None:
            progress()
    return total / _PROBES


def _acted(bundle: AvatarBundle, states: HeadState) -> HeadState:
    """The strongest of the states at which one expression is alone: those that move most, where
    there is a rig."""
    alone = torch.nonzero((states.expression != 0).sum(-1) == 1)[:, 0]
    strength = states.expression[alone].abs()
    if (rig := bundle.avatar.rig) is not None:
        strength = strength * rig.shapes.norm(dim=-1).sum(-1)
    strength = strength.sum(-1)
    return states[alone[strength.argsort(descending=True)[:_ACTED]]]


@torch.no_grad()
def _images(bundle: AvatarBundle, shots: dict[str, HeadState]) -> dict[str, Tensor]:
    """By the names of MIN_DB, images on white [., H, W, 3] at the states of that name, or else
    those of "front"."""
    renderer, white = create("cpu"), torch.ones(3)

    def render(state: HeadState, angles: tuple[float, float]) -> Tensor:
        view = orbited(bundle.default_camera.in_frame(state.T_world_head), *angles)
        return renderer.render(bundle.avatar(state, view.center), view).over(white).clamp(0, 1)

    images = {}
    for name, views in _VIEWS.items():
        states = shots.get(name, shots["front"])
        images[name] = torch.stack(
            [render(states[index], view) for index in range(len(states)) for view in views]
        )
    return images
