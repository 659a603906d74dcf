"""Expressions that undo a part of another one, and act at most as strongly as that one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.scene.head_state import HeadState

CAPS = (("mouthClose", "jawOpen"),)
"""Pairs (a, b) of ARKit's expressions: a acts at most as strongly as b. Its ``mouthClose`` closes
the lips over an open jaw; without one it would drive the lower lip into the nose."""


def capped(
    expression: Tensor, names: tuple[str, ...], caps: Sequence[tuple[str, str]] = CAPS
) -> Tensor:
    """Coefficients [*b, E] as they act: with those caps applied whose names are there.
    Differentiable almost everywhere."""
    for name, by in caps:
        if name not in names or by not in names:
            continue
        index = names.index(name)
        limit = expression[..., names.index(by)].clamp_min(0)
        column = torch.minimum(expression[..., index], limit)
        here = torch.arange(expression.shape[-1], device=expression.device) == index
        expression = torch.where(here, column[..., None], expression)
    return expression


def capped_state(state: HeadState, names: tuple[str, ...]) -> HeadState:
    """States [*b] of expressions with these names, as they act."""
    expression = capped(state.expression, names)
    if expression is state.expression:
        return state
    return dataclasses.replace(state, expression=expression)
