"""Glasses of a synthetic subject: thin frames drawn like strands, rigid with the head. The lenses
are clear."""

from __future__ import annotations

import dataclasses

import numpy as np

from likeness.synthetic.hair import Hair

_RIM_PARTS, _RIM_WIDTH_M, _ARM_WIDTH_M = 14, 0.0022, 0.0030
# metres, head frame: where an arm ends, on the subject's left
_EAR = np.array([0.075, 0.004, -0.085])


@dataclasses.dataclass(frozen=True)
class Glasses:
    """Frames; lengths in metres, the colour linear in [0, 1]."""

    radius: float = 0.025
    """Half the width of a lens."""
    roundness: float = 0.8
    """Its height against its width."""
    color: tuple[float, float, float] = (0.02, 0.02, 0.02)
    """Colour of the frames."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Glasses:
        """Frames drawn at random: mostly dark, some of metal or coloured."""
        tone = rng.uniform(0.005, 0.05) if rng.random() < 0.7 else rng.uniform(0.1, 0.4)
        red, green, blue = np.clip(tone * rng.uniform(0.7, 1.3, 3), 0, 1).tolist()
        return cls(
            float(rng.uniform(0.022, 0.029)), float(rng.uniform(0.65, 1.0)), (red, green, blue)
        )


def worn(hair: Hair, glasses: Glasses, eyes: np.ndarray) -> Hair:
    """The hair with the frames as further strands. eyes: [2, 3] centres of the left and right
    eyeball, head frame."""
    points = hair.widths.shape[1]
    lines, widths = [], []
    centres = eyes + [0.0, -0.003, 0.024]
    for centre, side in zip(centres, np.sign(eyes[:, 0])):
        angles = np.linspace(0, 2 * np.pi, _RIM_PARTS + 1)
        for start, end in zip(angles[:-1], angles[1:]):
            angle = np.linspace(start, end, points)
            rim = (
                np.stack([np.cos(angle), glasses.roundness * np.sin(angle), np.zeros(points)], 1)
                * glasses.radius
            )
            # the outer half follows the face
            rim[:, 2] -= 2.5 * rim[:, 0] ** 2 * (rim[:, 0] * side > 0)
            lines.append(centre + rim)
            widths.append(_RIM_WIDTH_M)
        hinge = centre + [side * glasses.radius, 0.004, -2.5 * glasses.radius**2]
        ear = _EAR * [side, 1, 1]
        for start, end in zip(np.linspace(0, 1, 5)[:-1], np.linspace(0, 1, 5)[1:]):
            lines.append(hinge + np.linspace(start, end, points)[:, None] * (ear - hinge))
            widths.append(_ARM_WIDTH_M)
    inner = [centre - [np.sign(centre[0]) * glasses.radius, -0.003, 0] for centre in centres]
    along = np.linspace(0, 1, points)[:, None]
    lines.append(
        inner[0] + along * (inner[1] - inner[0]) + [0, 0.003, 0.001] * np.sin(np.pi * along)
    )
    widths.append(_RIM_WIDTH_M)
    count = len(lines)
    return dataclasses.replace(
        hair,
        strands=np.concatenate([hair.strands, np.stack(lines).astype(np.float32)]),
        widths=np.concatenate(
            [hair.widths, np.repeat(np.array(widths, np.float32)[:, None], points, 1)]
        ),
        occlusion=np.concatenate([hair.occlusion, np.full((count, points), 0.7, np.float32)]),
        colors=np.concatenate(
            [hair.colors, np.tile(np.array(glasses.color, np.float32), (count, 1))]
        ),
    )
