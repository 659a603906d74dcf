"""How far lips are apart, by coefficients of expressions: lips that meet on p, b and m are what an
eye sees first in speech, and coefficients of two people say it only by where each one's lips
meet."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from likeness.scene.expression_caps import capped

# Millimetres that each expression of ARKit at coefficient 1 parts the middle of the lips (the mean
# of three pairs of landmarks), measured on the head model anny; a test holds it to it. Others that
# have these expressions differ by their own sizes.
OPENING_MM = {
    "jawOpen": 32.3,
    "mouthClose": -32.3,
    "mouthFunnel": 10.7,
    "jawForward": 1.3,
    "mouthPucker": -1.2,
    "mouthLeft": -1.2,
    "mouthRight": -1.2,
    "mouthSmileLeft": -1.3,
    "mouthSmileRight": -1.3,
    "mouthRollLower": -2.9,
    "mouthRollUpper": -2.3,
    "mouthShrugLower": -4.4,
    "mouthShrugUpper": 3.7,
    "mouthPressLeft": -1.1,
    "mouthPressRight": -1.1,
    "mouthLowerDownLeft": 2.0,
    "mouthLowerDownRight": 2.0,
    "mouthUpperUpLeft": 2.5,
    "mouthUpperUpRight": 2.5,
    "cheekPuff": -1.0,
}
JAW, CLOSE = "jawOpen", "mouthClose"
_MET = 0.02  # of a clip's frames, the part in which the lips meet at least
_ENOUGH_MM = 1e-3
_ROUNDS = 4  # of the correction: each round stops at most some coefficients at their limits


def has_lips(names: tuple[str, ...]) -> bool:
    """Whether these expressions say how far the lips are apart."""
    return JAW in names and CLOSE in names


@functools.cache
def effects(names: tuple[str, ...]) -> Tensor:
    """[E] millimetres for each of some expressions."""
    return torch.tensor([OPENING_MM.get(name, 0.0) for name in names])


def opening(expression: Tensor, names: tuple[str, ...]) -> Tensor:
    """Millimetres [*b] that the lips of coefficients [*b, E] are farther apart than those of the
    neutral face."""
    return capped(expression, names) @ effects(names).to(expression)


def meeting(expression: Tensor, names: tuple[str, ...]) -> Tensor:
    """The ``opening`` [] at which the lips of the person in a recording [T, E] meet: what the most
    closed frames have, and no more than the neutral face, whose lips are closed or ajar."""
    return opening(expression, names).quantile(_MET).clamp_max(0.0)


def with_opening(
    expression: Tensor, wanted: Tensor, names: tuple[str, ...], low: Tensor, high: Tensor
) -> Tensor:
    """Coefficients [T, E] whose ``opening`` is ``wanted`` [T], by the smallest change within limits
    [E]; as near to it as those allow.

    Lips are closed by all that closes them, and opened by the jaw alone: what a limit of the jaw
    takes away is not to come back as another face.
    """
    expression, by = capped(expression, names), effects(names).to(expression)
    jaw, close = names.index(JAW), names.index(CLOSE)
    low, high = torch.minimum(low, expression), torch.maximum(high, expression)
    of_jaw = torch.zeros_like(by, dtype=torch.bool)
    of_jaw[[jaw, close]] = True
    for _ in range(_ROUNDS):
        missing = (wanted - opening(expression, names))[..., None]
        if float(missing.abs().max()) < _ENOUGH_MM:
            break
        free = torch.where(by * missing > 0, expression < high, expression > low)
        # a jaw that is wholly undone closes nothing more
        undone = (expression[..., close] >= expression[..., jaw])[..., None] & of_jaw
        weights = by * (free & torch.where(missing < 0, ~undone, of_jaw))
        change = missing * weights / (weights * by).sum(-1, keepdim=True).clamp_min(1e-6)
        expression = capped((expression + change).clamp(low, high), names)
    return expression
