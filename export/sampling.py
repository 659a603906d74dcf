"""States at which a teacher is asked: what its recording shows, each expression alone, and mixtures
of both."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.expression_caps import capped_state
from likeness.scene.head_state import HeadState

KEEP_EVERY = 8  # one recorded frame in so many is held_out out, to measure on
_MIN_COEFFICIENT = 0.02  # coefficients below this do not show
_RECORDED, _KEPT = 300, 24  # at most
_FRESH = 3  # expressions of any strength in a mixture, where they were never seen


@dataclasses.dataclass(frozen=True)
class TeachingStates:
    """taught: [T] states to learn codes from; weights: [T] how much each counts. whole: [W] those
    of them at which all Gaussians are asked for, for their modes. test: [K] recorded states
    held out."""

    taught: HeadState
    weights: Tensor
    whole: Tensor
    test: HeadState


def teaching_states(
    bundle: AvatarBundle, most: int = 1200, whole: int = 300, seed: int = 0
) -> TeachingStates:
    """At most ``most`` states, ``whole`` of them whole, the same for the same bundle and seed.

    Recorded frames (evenly thinned), the neutral face, each expression alone at the ends of its
    plausible range, and mixtures of recorded frames, coefficient by coefficient, which part what
    the recording only shows together; of an avatar that shows what it has not seen, every other
    mixture has a few expressions of any strength.
    """
    recording = bundle.recording
    frames = torch.arange(len(recording))
    held_out = frames[frames % KEEP_EVERY == KEEP_EVERY // 2]
    if not len(held_out):
        held_out = frames[-1:]
    used = frames[~torch.isin(frames, held_out)] if len(frames) > 1 else frames
    used = _thinned(used, min(_RECORDED, max(1, most // 2)))
    alone = _alone(bundle)
    alone = alone[: max(1, most - len(used))]
    count = max(0, most - len(used) - len(alone))
    mixed = _mixed(recording[used], count, seed, bundle.shows_unseen)
    taught = HeadState.cat([recording[used], alone, mixed])
    taught = capped_state(taught, bundle.expression_names)
    weights = torch.cat(
        [torch.ones(len(used)), torch.full((len(alone),), 0.5), torch.full((len(mixed),), 0.5)]
    )
    # A quarter of mixtures among the whole ones: the rest is what people look at.
    ends = len(used), len(used) + len(alone)
    shares = (whole // 2, whole // 4, whole - whole // 2 - whole // 4)
    ranges = (torch.arange(0, ends[0]), torch.arange(*ends), torch.arange(ends[1], len(taught)))
    chosen = torch.cat([_thinned(part, share) for part, share in zip(ranges, shares)])
    return TeachingStates(taught, weights, chosen, recording[_thinned(held_out, _KEPT)])


def _alone(bundle: AvatarBundle) -> HeadState:
    """Neutral, and each expression alone at the ends of its range, at rest in the mean pose:
    [A]."""
    ends = [torch.zeros_like(bundle.expression_range[0])]
    for index in range(len(bundle.expression_names)):
        for end in bundle.plausible_range[:, index]:
            if abs(float(end)) > _MIN_COEFFICIENT:
                ends.append(torch.zeros_like(ends[0]))
                ends[-1][index] = end
    rest = bundle.default_state
    repeated = rest.map(lambda tensor: tensor.expand(len(ends), *tensor.shape))
    return dataclasses.replace(repeated, expression=torch.stack(ends))


def _mixed(recorded: HeadState, count: int, seed: int, unseen: bool) -> HeadState:
    """[count] states: each coefficient from one of two recorded frames, times a strength; poses
    from a third. unseen: in every other one a few coefficients are anything up to 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randint(len(recorded), (count,), generator=generator)

    a, b, pose = recorded.expression[draw()], recorded.expression[draw()], recorded[draw()]
    # Beyond what the recording shows, too: who drives the avatar will go there.
    strength = 1.5 * torch.rand(count, 1, generator=generator)
    expression = torch.where(torch.rand(a.shape, generator=generator) < 0.5, a, b) * strength
    if unseen:
        fresh = torch.rand(a.shape, generator=generator) < _FRESH / a.shape[1]
        fresh[1::2] = False
        expression = torch.where(fresh, torch.rand(a.shape, generator=generator), expression)
    return dataclasses.replace(pose, expression=expression)


def _thinned(frames: Tensor, most: int) -> Tensor:
    if len(frames) <= most:
        return frames
    return frames[torch.linspace(0, len(frames) - 1, most).round().long()]
