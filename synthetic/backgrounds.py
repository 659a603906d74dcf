"""What stands behind a synthetic subject: walls, furniture, a chair's back, pictures, flowers, a
shadow. BACKGROUNDS lists them.

Things often have colours of the person, as in real rooms; they stand still, the shadow goes with
the person.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from likeness.synthetic.noise import octave_noise

if TYPE_CHECKING:
    from likeness.synthetic.subject import SyntheticSubject

_UNITS = 512.0  # lengths below are parts of an image of this height
_FINE = 2  # samples per pixel and side
_BRIGHT = np.array([[0.93, 0.92, 0.90], [0.80, 0.70, 0.52], [0.45, 0.31, 0.20], [0.30, 0.42, 0.55]])


@dataclasses.dataclass(frozen=True)
class Background:
    """colours: [H, W, 3] in [0, 1], without the person's shadow. shadow: how much darker its middle
    is, in [0, 1]. shadow_offset: where it falls, in parts of the image's height (right, down)."""

    colours: np.ndarray
    shadow: float = 0.0
    shadow_offset: tuple[float, float] = (0.0, 0.0)

    def behind(self, alpha: np.ndarray) -> np.ndarray:
        """[H, W, 3] what is seen around a person of this alpha [H, W], before it is covered by
        them."""
        import cv2

        if self.shadow == 0:
            return self.colours
        height, width = alpha.shape
        right, down = (height * part for part in self.shadow_offset)
        shifted = cv2.warpAffine(
            alpha,
            np.array([[1, 0, right], [0, 1, down]], np.float64),
            (width, height),
            borderMode=cv2.BORDER_REPLICATE,
        )
        soft = cv2.GaussianBlur(shifted, (0, 0), 7 * height / _UNITS)
        return self.colours * (1 - self.shadow * soft[..., None])


def make_background(
    name: str, subject: SyntheticSubject, width: int, height: int, seed: int
) -> Background:
    """A background of BACKGROUNDS for a person, [height, width]; ``seed`` decides places and
    colours."""
    import cv2

    rng = np.random.default_rng((seed, 41))
    wall = subject.wall(width, height)
    canvas = _Canvas(wall, subject, rng)
    parts = BACKGROUNDS[name]
    for part in parts:
        part(canvas)
    colours = canvas.image
    if parts:  # things behind a person are a little out of focus, and have some texture
        colours = cv2.GaussianBlur(colours, (0, 0), rng.uniform(0.4, 1.4) * height / _UNITS)
    return Background(np.clip(colours, 0, 1).astype(np.float32), *canvas.shadow)


class _Canvas:
    """An image under construction, in units of 1/512 of its height from its upper left corner."""

    def __init__(
        self, wall: np.ndarray, subject: SyntheticSubject, rng: np.random.Generator
    ) -> None:
        self.image, self.rng = wall.copy(), rng
        self.scale = wall.shape[0] / _UNITS
        self.wide = wall.shape[1] / self.scale
        look = subject.person.look
        self.lamp = subject.person.light.lamp
        self.palette = np.concatenate([np.array([look.hair, look.shirt, look.skin]), _BRIGHT])
        self.shadow: tuple[float, tuple[float, float]] = (0.0, (0.0, 0.0))

    def colour(self) -> np.ndarray:
        """A colour of the person's or of the room's."""
        chosen = self.palette[self.rng.integers(len(self.palette))]
        return np.clip(chosen * self.rng.uniform(0.75, 1.3), 0.02, 0.98)

    @functools.cached_property
    def _grain(self) -> np.ndarray:
        """Noise [H, W, 1] that gives the things some texture."""
        height, width = self.image.shape[:2]
        rows, columns = np.mgrid[:height, :width].astype(np.float32) / self.scale
        places = np.stack([columns.ravel(), rows.ravel(), 0 * rows.ravel()], 1)
        seed = int(self.rng.integers(1 << 30))
        return octave_noise(places, 40, seed).reshape(height, width, 1)

    def fill(self, points: np.ndarray, colour: np.ndarray, grain: float = 0.02) -> None:
        """A polygon [N, 2] of one colour, with softened edges."""
        import cv2

        limits = np.array(self.image.shape[1::-1])
        corners = np.asarray(points) * self.scale
        low = np.clip(np.floor(corners.min(0)).astype(int), 0, limits)
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, limits)
        wide, tall = (high - low).tolist()
        if min(wide, tall) < 1:
            return
        mask = np.zeros((_FINE * tall, _FINE * wide), np.uint8)
        cv2.fillPoly(mask, [np.round((corners - low) * _FINE).astype(np.int32)], (255,))
        cover = cv2.resize(mask, (wide, tall), interpolation=cv2.INTER_AREA)[..., None] / 255.0
        here = np.s_[low[1] : high[1], low[0] : high[0]]
        self.image[here] += cover * (colour * (1 + grain * self._grain[here]) - self.image[here])

    def box(self, left: float, top: float, right: float, bottom: float, colour: np.ndarray) -> None:
        self.fill(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), colour)

    def ellipse(self, x: float, y: float, a: float, b: float, turn: float, colour) -> None:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        points = np.stack([a * np.cos(angle), b * np.sin(angle)], 1)
        turned = points @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        self.fill(turned + [x, y], colour)


def _window(canvas: _Canvas) -> None:
    """Light that falls in from one side, strongly."""
    rng, (height, width) = canvas.rng, canvas.image.shape[:2]
    x = np.linspace(0, 1, width) if rng.random() < 0.5 else np.linspace(1, 0, width)
    y = np.linspace(0, 1, height)[:, None]
    light = 1.35 - rng.uniform(0.6, 0.9) * x**0.7 - 0.25 * y
    canvas.image *= light[..., None] * np.array([1.03, 1.0, 0.95])


def _shadow(canvas: _Canvas) -> None:
    """The shadow that the person casts on the wall."""
    side, up, _ = canvas.lamp
    offset = (-0.09 * np.sign(side) * canvas.rng.uniform(0.5, 1.2), -0.06 * up)
    canvas.shadow = float(canvas.rng.uniform(0.2, 0.4)), (float(offset[0]), float(offset[1]))


def _furniture(canvas: _Canvas) -> None:
    """A shelf and a door: long upright and level lines, with things between."""
    rng = canvas.rng
    left = rng.uniform(-60, 0.25 * canvas.wide)
    right, wood = left + rng.uniform(0.4, 0.7) * canvas.wide, canvas.colour()
    for level in np.arange(rng.uniform(20, 70), 500, rng.uniform(70, 110)):
        x = left
        while x < right - 14:
            thick, tall = rng.uniform(9, 26), rng.uniform(30, 62)
            canvas.box(x, level - tall, x + thick, level, canvas.colour())
            x += thick + (rng.uniform(2, 40) if rng.random() < 0.3 else 1.0)
        canvas.box(left, level, right, level + 7, wood)
    for x in (left - 7, right):
        canvas.box(x, -5, x + 7, 520, wood)
    x = rng.uniform(0.72, 0.95) * canvas.wide
    canvas.box(x, -5, x + 12, 520, 0.75 * canvas.colour() + 0.2)
    canvas.box(x + 12, -5, x + 15, 520, np.full(3, 0.12))


def _chair(canvas: _Canvas) -> None:
    """The back of an office chair, from beside the ears down behind the shoulders."""
    rng = canvas.rng
    middle, half = 0.5 * canvas.wide + rng.uniform(-30, 30), rng.uniform(130, 200)
    top, colour = rng.uniform(120, 280), canvas.palette[rng.integers(2)] * rng.uniform(0.5, 1.1)
    angle = np.linspace(0, np.pi, 30)
    head = np.stack([middle + half * np.cos(angle), top + 60 - 60 * np.sin(angle)], 1)
    low = [[middle - 1.05 * half, 530], [middle + 1.05 * half, 530]]
    canvas.fill(np.concatenate([head, low]), np.clip(colour, 0.03, 1), grain=0.08)
    inner = np.concatenate([(head - [middle, top]) * [0.9, 0.9] + [middle, top + 12], low])
    canvas.fill(inner, np.clip(1.3 * colour + 0.03, 0.05, 1), grain=0.08)
    for x in np.arange(middle - 0.8 * half, middle + 0.8 * half, 24):
        canvas.box(x, top + 30, x + 2.5, 530, np.clip(0.7 * colour, 0.02, 1))


def _picture_frame(canvas: _Canvas) -> None:
    """Pictures on the wall, partly behind the head."""
    rng = canvas.rng
    for _ in range(rng.integers(2, 4)):
        wide, tall = rng.uniform(90, 220, 2)
        x, y = rng.uniform(0.05, 0.8) * canvas.wide, rng.uniform(-30, 200)
        canvas.box(x, y, x + wide, y + tall, canvas.colour())
        canvas.box(x + 9, y + 9, x + wide - 9, y + tall - 9, np.array([0.9, 0.89, 0.86]))
        canvas.box(x + 24, y + 24, x + wide - 24, y + tall - 24, canvas.colour())
        for _ in range(5):
            u, v = x + rng.uniform(40, wide - 40), y + rng.uniform(40, tall - 40)
            a, b = rng.uniform(4, 16, 2)
            canvas.ellipse(u, v, a, b, rng.uniform(0, 3), canvas.colour())


def _flowers(canvas: _Canvas) -> None:
    """White flowers with leaves at the height of the hair."""
    rng = canvas.rng
    for side in (-1, 1):
        centre = 0.5 * canvas.wide + side * rng.uniform(90, 150)
        for _ in range(26):
            x, y = rng.normal(centre, 45), rng.normal(170, 80)
            leaf = np.array([0.22, 0.36, 0.16]) * rng.uniform(0.6, 1.5)
            canvas.ellipse(x, y, rng.uniform(10, 22), rng.uniform(3, 7), rng.uniform(0, 3), leaf)
        for _ in range(22):
            x, y = rng.normal(centre, 45), rng.normal(160, 80)
            white = np.array([0.95, 0.93, 0.90]) * rng.uniform(0.85, 1.03)
            for turn in np.arange(3) * np.pi / 3:
                canvas.ellipse(x, y, rng.uniform(6, 12), rng.uniform(3, 5), turn, white)
            canvas.ellipse(x, y, 2.5, 2.5, 0, np.array([0.85, 0.72, 0.30]))


BACKGROUNDS: dict[str, tuple[Callable[[_Canvas], None], ...]] = {
    "wall": (),
    "window": (_window,),
    "shadow": (_shadow,),
    "furniture": (_furniture,),
    "chair": (_chair,),
    "pictures": (_picture_frame,),
    "flowers": (_flowers,),
    "clutter": (_window, _furniture, _picture_frame, _flowers, _chair, _shadow),
}
"""What is drawn over the wall, the farthest first."""
