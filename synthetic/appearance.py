"""How a synthetic subject looks: colours, hair, age of the skin. Chosen by a seed."""

from __future__ import annotations

import dataclasses

import numpy as np

Color = tuple[float, float, float]

# sRGB values.
_SKIN = np.array(
    [
        [0.90, 0.73, 0.64],
        [0.84, 0.64, 0.53],
        [0.72, 0.52, 0.40],
        [0.52, 0.35, 0.26],
        [0.36, 0.23, 0.17],
    ]
)
_HAIR = np.array(
    [
        [0.09, 0.07, 0.06],
        [0.22, 0.14, 0.09],
        [0.34, 0.22, 0.13],
        [0.52, 0.37, 0.21],
        [0.45, 0.20, 0.09],
        [0.50, 0.48, 0.46],
    ]
)
_IRIS = np.array(
    [
        [0.30, 0.18, 0.09],
        [0.42, 0.28, 0.14],
        [0.32, 0.38, 0.24],
        [0.33, 0.45, 0.56],
        [0.45, 0.50, 0.52],
    ]
)
_SHIRT = np.array(
    [
        [0.20, 0.30, 0.42],
        [0.46, 0.18, 0.18],
        [0.24, 0.34, 0.28],
        [0.62, 0.60, 0.56],
        [0.22, 0.22, 0.24],
        [0.52, 0.44, 0.60],
    ]
)
_WALL = np.array([[0.62, 0.66, 0.68], [0.70, 0.66, 0.60], [0.56, 0.62, 0.58], [0.66, 0.62, 0.66]])
HAIR_STYLES = ("short", "tousled", "bob", "curly")


@dataclasses.dataclass(frozen=True)
class Look:
    """The appearance of a synthetic subject; colours are sRGB in [0, 1]."""

    skin: Color = (0.84, 0.64, 0.53)
    """Colour of the cheek in even light."""
    lips: Color = (0.74, 0.44, 0.40)
    """Colour of the lips."""
    hair: Color = (0.22, 0.14, 0.09)
    """Colour of hair and brows."""
    iris: Color = (0.33, 0.45, 0.56)
    """Colour of the irises."""
    shirt: Color = (0.20, 0.30, 0.42)
    """Colour of the shirt."""
    wall: Color = (0.62, 0.66, 0.68)
    """Colour of the wall behind."""
    hair_style: str = "short"
    """One of HAIR_STYLES."""
    redness: float = 0.5
    """How red cheeks, nose and ears are, 0 to 1."""
    freckles: int = 0
    """Number of freckles."""
    stubble: float = 0.0
    """Density of a shaved beard, 0 to 1."""
    brow_density: float = 1.0
    """Number of hairs in the brows relative to the usual."""
    stripes: bool = False
    """A striped shirt."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Look:
        """A person drawn at random."""
        tone = rng.uniform(0, len(_SKIN) - 1.001) * rng.uniform(0.4, 1)
        low = int(tone)
        skin = _SKIN[low] + (tone - low) * (_SKIN[low + 1] - _SKIN[low])
        # Dark skin rarely goes with fair hair and fair eyes.
        hair = _HAIR[rng.integers(0, len(_HAIR) if tone < 1.5 else 2)] * rng.uniform(0.85, 1.15)
        iris = _IRIS[rng.integers(0, len(_IRIS) if tone < 1.5 else 2)]
        lips = skin * [0.86, 0.66, 0.68] + [0.03, 0.0, 0.01]
        return cls(
            skin=_tuple(skin + rng.normal(0, 0.008, 3)),
            lips=_tuple(lips),
            hair=_tuple(hair),
            iris=_tuple(iris),
            shirt=_tuple(_SHIRT[rng.integers(len(_SHIRT))] + rng.normal(0, 0.02, 3)),
            wall=_tuple(_WALL[rng.integers(len(_WALL))]),
            hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
            redness=float(rng.uniform(0.3, 0.9)),
            freckles=int(rng.integers(30, 160)) if rng.random() < 0.4 else 0,
            stubble=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.4 else 0.0,
            brow_density=float(rng.uniform(0.8, 1.3)),
            stripes=bool(rng.random() < 0.5),
        )


def _tuple(color: np.ndarray) -> Color:
    r, g, b = (float(value) for value in np.clip(color, 0.02, 0.98))
    return r, g, b


def to_linear(srgb) -> np.ndarray:
    """Linear light from sRGB values (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
