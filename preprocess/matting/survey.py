"""What stands still behind the person, from some frames of the whole clip: what keeps its colour
while the person moves is background, however near the person it always is."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from likeness.preprocess.matting.grid import distances, enlarge, push_pull, shrink
from likeness.preprocess.matting.kernels import SurveyLimits, still_kernel, survey_kernel

_PATTERN, _BRIDGE = 5, 5  # widths of a patch that moves, and of what is no bridge, at 512
_INSIDE = 0.3  # probability from which on a pixel is inside the mask


@dataclasses.dataclass(frozen=True)
class SurveyConfig:
    """When a pixel counts as background. Colours in 8-bit levels, lengths in pixels of an image 512
    on its longer side."""

    near: float = 2.0
    """Distance from the mask up to which a frame says nothing."""
    clear: float = 30.0
    """Distance from the mask at which a frame's colour is that of the background."""
    motion: float = 6.0
    """How far the person's outline must have moved for a colour that stayed to be background."""
    same: float = 14.0
    """Difference of two colours that are the same but for noise."""
    support: float = 0.6
    """Least share of the frames, weighted by distance, that show the same colour."""
    pattern: float = 3.0
    """Slope of colours in levels per pixel from which on motion shows."""
    still: float = 0.2
    """Motion of a pattern in pixels below which it stands still; people breathe."""
    moving: float = 0.5
    """Least share of the patterns inside the mask that must move; else the person keeps still."""


@dataclasses.dataclass(frozen=True)
class StaticLayer:
    """The background of a camera that stands still, in 8-bit levels.

    colours: [H, W, 3] float32. deviation: [H, W] float32 mean absolute. known: [H, W] bool. person:
    [H, W] float32, the mean probability that the masks gave for a person where this colour showed.
    """

    colours: np.ndarray
    deviation: np.ndarray
    known: np.ndarray
    person: np.ndarray


class Survey:
    """Gathers frames; see ``static_layer``.

    Of each, it keeps the image, and where its pixels are: 128 and more is outside the person's
    mask, by the pixels from it that go beyond 128; from 127 down it is inside, by the mask's
    probability of the background in 127ths.
    """

    def __init__(self, config: SurveyConfig = SurveyConfig()) -> None:
        self.config = config
        self._frames: list[np.ndarray] = []
        self._places: list[np.ndarray] = []

    def add(self, frame: np.ndarray, mask: np.ndarray) -> None:
        """A frame [H, W, 3] uint8 and the probability [H, W] of the person."""
        away = distances(mask > _INSIDE) * (512 / max(mask.shape))
        place = np.where(mask > _INSIDE, 127 * (1 - mask), 128 + np.minimum(away, 127))
        self._frames.append(frame)
        self._places.append(place.astype(np.uint8))

    def static_layer(self) -> StaticLayer | None:
        """None for fewer than three frames of the same size."""
        frames, places = self._frames, self._places
        if len(frames) < 3 or len({frame.shape for frame in frames}) > 1:
            return None
        config, shape = self.config, frames[0].shape
        colours, known = np.empty(shape, np.float32), np.empty(shape[:2], np.bool_)
        deviation, person = (np.empty(shape[:2], np.float32) for _ in range(2))
        limits = SurveyLimits(
            np.float32(config.near),
            np.float32(config.clear),
            np.float32(config.motion),
            np.float32(config.same),
            np.float32(config.support),
        )
        light = _brightness(frames, places, config.clear)
        stacks = np.stack(frames), np.stack(places)
        survey_kernel(*stacks, light, limits, colours, deviation, known, person)
        still = self._still(*stacks, light, colours, deviation, known)
        person[still] = 0
        return StaticLayer(colours, deviation, known | still, person)

    def _still(self, frames, places, light, colours, deviation, known) -> np.ndarray:
        """What has a pattern that stays where it is, though it may always be inside the mask, and
        what lies between: bool [H, W]. Writes its colours and deviations where they are not known.

        The spread of a pixel's colours over time, in units of the colours' slope, is how far its
        pattern moves.
        """
        config, patch = self.config, (_odd(_PATTERN, known.shape),) * 2
        medians, spread = np.zeros_like(colours), np.empty_like(deviation)
        still_kernel(frames, places, light, np.float32(config.clear), medians, spread)
        near, masked = spread >= 0, (places < 64).mean(0) > 0.5
        if not masked.any():
            return np.zeros_like(known)
        noise = float(np.median(spread[near & ~masked])) if (near & ~masked).any() else 1.0
        filled = np.where(near[..., None], medians, colours)
        grey = cv2.transform(filled, np.full((1, 3), 1 / 3))
        slopes = [cv2.Sobel(grey, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))]
        pattern = cv2.blur(slopes[0] ** 2 + slopes[1] ** 2, patch)
        change = cv2.blur(np.square(np.maximum(spread - 1.3 * noise, 0)), patch)
        told = near & (pattern > config.pattern**2)
        motion = np.sqrt(np.maximum(change, 0) / np.maximum(pattern, 1))
        moves = told & (motion >= config.still)
        if (moves & masked).sum() < config.moving * (told & masked).sum():
            return np.zeros_like(known)  # a person who hardly moves
        share, total = shrink(moves.astype(np.float32)), shrink(told.astype(np.float32))
        votes = cv2.merge([share / np.maximum(total, 1e-6)] * 3)
        field = enlarge(push_pull(votes, total)[..., 0].copy(), known.shape)
        still, depth = near & (field < 0.3), distances(~masked)
        if still[depth > 0.6 * depth.max()].mean() > 0.1:
            return np.zeros_like(known)  # nor does the middle of the mask
        still = _reaching(still, ~near)
        new = still & ~known
        colours[new], deviation[new] = medians[new], spread[new]
        return still


def _odd(width: int, shape: tuple[int, ...]) -> int:
    """A width at 512 pixels in those of an image [H, W], odd."""
    return 2 * round(width // 2 * max(shape) / 512) + 1


def _reaching(region: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The parts of a region [H, W] that more than thin bridges connect with the outside."""
    side = _odd(_BRIDGE, region.shape)
    wide = cv2.morphologyEx(
        (region | outside).view(np.uint8), cv2.MORPH_OPEN, np.ones((side, side))
    )
    count, found = cv2.connectedComponents(wide)
    labels = np.asarray(found, np.int32)
    reaches = np.zeros(count, bool)
    reaches[labels[outside]] = True
    reaches[0] = False
    return reaches[labels] & region


def _brightness(frames: list[np.ndarray], places: list[np.ndarray], clear: float) -> np.ndarray:
    """What each frame is brighter by than their mean, where it shows the background: [T, 3]."""
    small = np.stack([shrink(frame) for frame in frames])
    shown = np.stack([shrink(place) for place in places]) > 128 + clear
    mean = (small * shown[..., None]).sum(0) / np.maximum(shown.sum(0), 1)[..., None]
    light = np.zeros((len(frames), 3), np.float32)
    for t, here in enumerate(shown):
        if here.any():
            light[t] = np.median((small[t] - mean)[here], axis=0)
    return light
