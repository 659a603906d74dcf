"""Lids that close on every person.

A blink is one displacement of the template's lids: on wider eyes it leaves a gap, on narrower ones
the upper lid runs into the cheek. What a person's opening differs by from the template's scales it,
smoothly along each eye.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from likeness.head_models.landmarks import EYE_WIDTHS, LID_PAIRS

_DEGREE = 2  # of the scale along the eye: leaves half a millimetre of gap over random people


@dataclasses.dataclass(frozen=True)
class LidClosure:
    """How a head model's blinks adapt to a person; E' blinks (one an eye), P pairs of landmarks on
    the rims of the lids, K terms.

    rows: the blinks' places among the expressions. pairs: [E', P, 2] landmarks of upper and lower
    lid. template: [L, 3] the template's landmarks at rest. amounts: [E', K, P, 3] the terms'
    amounts per metre of change of the pairs' openings. shapes: [E', K, V, 3] metres by which a term
    changes a blink.
    """

    rows: tuple[int, ...]
    pairs: Tensor
    template: Tensor
    amounts: Tensor
    shapes: Tensor

    def of_person(self, landmarks: Tensor) -> Tensor:
        """[*b, E', V, 3] what is added to the blinks of people with landmarks [*b, L, 3] at
        rest."""
        change = landmarks - self.template.to(landmarks)
        upper, lower = self.pairs.unbind(-1)
        openings = change[..., upper, :] - change[..., lower, :]
        terms = torch.einsum("ekpd,...epd->...ek", self.amounts.to(landmarks), openings)
        return torch.einsum("...ek,ekvd->...evd", terms, self.shapes.to(landmarks))


def lid_closure(
    names: tuple[str, ...], blinks: Tensor, template: Tensor, at_landmarks: Callable
) -> LidClosure:
    """The closure of a model with expressions ``names``, whose shapes are ``blinks`` [E, V, 3] on
    ``template`` [V, 3]; at_landmarks: reads fields [..., V, 3] at the landmarks.

    Along each eye, t runs from -1 to 1 between its corners. A person's blink is the template's
    times s(t), a polynomial that closes the pairs of landmarks as the template's blink closes its
    own, in least squares weighted by their travel.
    """
    points = at_landmarks(template)
    rows, pairs, amounts, shapes = [], [], [], []
    for eye, places in LID_PAIRS.items():
        name = f"eyeBlink{eye.capitalize()}"
        if name not in names:
            continue
        rows.append(names.index(name))
        blink = blinks[rows[-1]]
        upper, lower = torch.tensor(places).T
        moved = at_landmarks(blink)
        travel = moved[upper] - moved[lower]  # [P, 3]
        first, last = (points[corner, 0] for corner in EYE_WIDTHS[eye])

        def terms(x: Tensor, first: Tensor = first, last: Tensor = last) -> Tensor:
            t = (2 * (x - first) / (last - first) - 1).clamp(-1, 1)
            return torch.stack([t**power for power in range(_DEGREE + 1)], -1)

        length = travel.norm(dim=-1, keepdim=True)
        design = terms(0.5 * (points[upper, 0] + points[lower, 0]))
        # One pair asks for the scale -(change of opening) . travel / travel^2.
        weighted = torch.linalg.pinv((design * length).double()).to(length) * length.T  # [K, P]
        amounts.append(-weighted[..., None] * (travel / length.square())[None])
        shapes.append(terms(template[:, 0]).T[..., None] * blink)
        pairs.append(torch.tensor(places))
    if not rows:
        none = template.new_zeros
        return LidClosure(
            (), torch.zeros(0, 0, 2, dtype=torch.long), points, none(0, 0, 0, 3), none(0, 0, 1, 3)
        )
    return LidClosure(
        tuple(rows), torch.stack(pairs), points, torch.stack(amounts), torch.stack(shapes)
    )
