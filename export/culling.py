"""Leaves out Gaussians that no picture misses: hidden within the head, or too faint to tell.

Compositing is linear in each Gaussian's opacity o: without it the picture I changes by o ∂I/∂o. For
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
from likeness.export.sensitivity import reduced, turned
from likeness.fitting.bundle import AvatarBundle
from likeness.renderers import create
from likeness.scene.head_state import HeadState

FACT = "culled"
SHARES = (0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
"""Of the Gaussians: the largest is left out that keeps to MIN_DB."""
MIN_DB = {"front": 52.0, "acted": 48.0, "side": 52.0, "around": 42.0}
"""Agreement with the pictures of all Gaussians, from where the camera stood, there with expressions
alone and at their
strongest, from some 30 degrees beside it, and from anywhere else: what nobody filmed is a guess to
    begin with."""

_PROBES = 96
# radians of yaw and pitch
_REACH = {"front": (0.0, 0.0), "side": (0.7, 0.35), "around": (math.pi, 0.5)}
_LOOKS = {
    "front": ((0.0, 0.0),),
    "acted": ((0.0, 0.0),),
    "side": ((-0.5, 0.1), (0.5, -0.1)),
    "around": ((-1.6, 0.1), (1.6, -0.1), (3.1, 0.2)),
}
_ACTED = 12  # states of them


def culled(bundle: AvatarBundle, progress: bool = False, seed: int = 0) -> AvatarBundle:
    """The bundle without the Gaussians that matter least in pictures of it, as many as MIN_DB
    allows; itself where that is hardly any, or where it was culled before."""
    if FACT in bundle.facts:
        return bundle
    sample = teaching_states(bundle, seed=seed)
    with tqdm(
        desc="culling", total=_PROBES, unit="picture", disable=not progress, leave=False
    ) as bar:
        errors = removal_errors(bundle, sample.taught, seed, bar.update)
    order, count = errors.argsort(), len(errors)
    front, acted = some(sample.kept), _acted(sample.taught)
    shown = {"front": front, "acted": acted if len(acted) else front}
    expected = _pictures(bundle, shown)
    for share in SHARES:
        kept = order[int(share * count) :].sort().values
        trial = dataclasses.replace(bundle, avatar=bundle.avatar.subset(kept))
        found = _pictures(trial, shown)
        psnr = {name: agreement(found[name], expected[name]) for name in MIN_DB}
        if all(psnr[name] >= least for name, least in MIN_DB.items()):
            fact = {
                "of": count,
                "left_out": count - len(kept),
                "psnr": {k: round(v, 2) for k, v in psnr.items()},
            }
            return dataclasses.replace(trial, facts={**bundle.facts, FACT: fact})
    return bundle


def removal_errors(bundle: AvatarBundle, states: HeadState, seed: int = 0, progress=None) -> Tensor:
    """Mean squared change [N] of pictures when one Gaussian is left out, over probes among states
    [T]: from where the camera stood, from beside that, and from anywhere, a third each."""
    generator = torch.Generator().manual_seed(seed)
    renderer, camera, white = create("cpu"), reduced(bundle.default_camera), torch.ones(3)
    chosen = torch.linspace(0, len(states) - 1, _PROBES).round().long().tolist()
    total = torch.zeros(bundle.avatar.num_gaussians)
    for index, (yaw, pitch) in zip(chosen, list(_REACH.values()) * _PROBES):
        u, v = (2 * torch.rand(2, generator=generator) - 1).tolist()
        view = turned(camera.in_frame(states[index].T_world_head), yaw * u, pitch * v)
        with torch.no_grad():
            cloud = bundle.avatar(states[index], view.center)
        opacities = cloud.opacities.clone().requires_grad_()
        picture = renderer.render(dataclasses.replace(cloud, opacities=opacities), view).over(white)
        signs = (torch.randint(2, picture.shape, generator=generator) * 2 - 1).to(picture)
        (gradient,) = torch.autograd.grad((picture * signs).sum(), opacities)
        total += (gradient * cloud.opacities).square() / picture.numel()
        if progress is not None:
            progress()
    return total / _PROBES


def _acted(states: HeadState) -> HeadState:
    """The strongest of the states at which one expression is alone."""
    alone = torch.nonzero((states.expression != 0).sum(-1) == 1)[:, 0]
    strength = states.expression[alone].abs().sum(-1)
    return states[alone[strength.argsort(descending=True)[:_ACTED]]]


@torch.no_grad()
def _pictures(bundle: AvatarBundle, shown: dict[str, HeadState]) -> dict[str, Tensor]:
    """By the names of MIN_DB, pictures on white [., H, W, 3] at the states of that name, or else
    those of "front"."""
    renderer, white = create("cpu"), torch.ones(3)

    def seen(state: HeadState, look: tuple[float, float]) -> Tensor:
        view = turned(bundle.default_camera.in_frame(state.T_world_head), *look)
        return renderer.render(bundle.avatar(state, view.center), view).over(white).clamp(0, 1)

    found = {}
    for name, looks in _LOOKS.items():
        states = shown.get(name, shown["front"])
        found[name] = torch.stack(
            [seen(states[index], look) for index in range(len(states)) for look in looks]
        )
    return found
