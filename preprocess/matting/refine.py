"""From a coarse mask of a person to an alpha matte, given what is behind: colours decide where they
can."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from likeness.preprocess.matting.grid import (
    CELL,
    distances,
    enlarge,
    masked_means,
    push_pull,
    shrink,
)
from likeness.preprocess.matting.kernels import Knowns, OddsLimits, unmix_kernel
from likeness.preprocess.matting.plate import Background

_PATCH = (7, 7)  # pixels that must look like the background together
_HALF_PATCH, _SHADE = (3, 3), (7, 7)  # the same, and those of one shade, of the image's half


@dataclasses.dataclass(frozen=True)
class RefineConfig:
    """Refinement of a coarse mask. Lengths are in pixels of an image whose longer side is 512."""

    reach_out: float = 30.0
    """How far outside the mask loose hair is looked for."""
    reach_in: float = 12.0
    """How far inside the mask background is looked for."""
    solid: float = 6.0
    """Depth inside the person from which on everything is opaque."""
    doubt: float = 12.0
    """Log odds of the background, at most, where the image shows what stands still behind the
    person."""
    darkest: float = 0.6
    """Least factor of the background in the person's shadow."""
    gap: float = 3.5
    """Half the width from which on a gap in the person, with background in it, stays open; narrower
    ones are closed, unless nothing of the person around has such a colour."""
    prior_inside: float = 6.0
    """Largest log odds that the coarse mask gives for the person: as much as colour can give
    against it."""
    prior_outside: float = 3.0
    """Largest log odds that the coarse mask gives for the background; less, as it does not know
    loose hair."""
    speck: float = 20.0
    """Area in pixels below which a lone part of the matte is dropped."""
    evidence_limit: float = 6.0
    """Largest log odds of colour."""
    ringing: float = 0.15
    """How far sharpening and compression bring a pixel off the mixtures of two colours, in parts of
    their difference."""
    foreground_noise: float = 8.0
    """Least spread of foreground colours in 8-bit levels."""
    calm_contrast: float = 30.0
    """Difference of person and background in 8-bit levels below which edges are smoothed more."""


def refine(
    image: np.ndarray, mask: np.ndarray, background: Background, config: RefineConfig
) -> np.ndarray:
    """Alpha [H, W] float32 in [0, 1] of image [H, W, 3] uint8 and mask [H, W] float32 (probability
    of the person).

    Every pixel near the mask's edge is taken for a mixture of the background behind it and of the
    nearest sure colour of the person. What the mixture says is weighed against the mask by how
    different the two colours are.
    """
    unit = max(mask.shape) / 512
    background = _shaded(image, mask, background, config)
    mask = _doubted(image, mask, background, config)
    core = distances(mask < 0.9) > config.reach_in * unit
    band = (distances(mask > 0.5) < config.reach_out * unit) & ~core
    if not core.any() or not band.any():
        return mask.copy()
    mixed, trust, odds = (np.empty(mask.shape, np.float32) for _ in range(3))
    largest = (config.prior_inside, config.prior_outside, config.evidence_limit, config.ringing)
    limits = OddsLimits(*map(np.float32, largest))
    alike = _least_distance(image, mask, background.colours, config)
    # Foreground colours first from deep inside, then from all that the first round takes for the
    # person.
    for first in (True, False):
        sure = core if first else core | (distances(odds < 1.5) > 2.5 * unit)
        nearest = push_pull(*masked_means(image, sure))
        nearest[..., 3] += config.foreground_noise
        near = enlarge(nearest, mask.shape)
        knowns = Knowns(image, mask, band, core, background.colours, background.sigma, near, alike)
        unmix_kernel(knowns, limits, mixed, trust, odds)
    # Where the person is hardly told from the background, odds are smoothed more and mixtures
    # count for less.
    contrast = np.square(nearest - background.guess)[..., :3].sum(-1)
    clear = enlarge(contrast / (contrast + config.calm_contrast**2), mask.shape)
    smoother, odds = cv2.blur(odds, (9, 9)), cv2.blur(odds, (3, 3))
    odds -= smoother
    odds *= clear
    odds += smoother
    trust *= clear

    solid = _connected(odds > 0, core, config.gap * unit)
    here = np.flatnonzero(band)
    depth, away, odds, mixed, trust = (
        values.take(here) for values in (distances(~solid), distances(solid), odds, mixed, trust)
    )
    soft = 1 / (1 + np.exp(-odds))
    inner = np.clip((depth / unit - 1) / (config.solid - 1), 0, 1)
    outer = np.clip((config.reach_out - away / unit) / (0.5 * config.reach_out), 0, 1)
    alpha = core.astype(np.float32)
    # between strands the background shows though they are solid around
    inner *= 1 - trust * np.clip(2 - 3 * mixed, 0, 1)
    alpha.reshape(-1)[here] = np.maximum(soft + trust * (mixed - soft), inner) * outer
    return _without_specks(alpha, config.speck * unit**2)


def _least_distance(
    image: np.ndarray, mask: np.ndarray, behind: np.ndarray, config: RefineConfig
) -> np.ndarray:
    """How far the colours of the sure foreground around are from those behind it, at least.

    [H, W] in 8-bit levels, huge where no sure foreground is near. Taken from deep inside, where
    there are no gaps between strands.
    """
    cell = CELL * 512 / max(mask.shape)
    outside = shrink((mask < 0.9).astype(np.float32)) > 0
    # stripes of a shirt are as wide as a cell: two samples of each
    height, width = outside.shape
    fine = (2 * width, 2 * height)
    small, wall = (cv2.resize(part, fine, interpolation=cv2.INTER_AREA) for part in (image, behind))
    off = np.square(small.astype(np.float32) - wall).sum(-1)
    off = off.reshape(height, 2, width, 2).min((1, 3))
    off[distances(outside) * cell < 1.5 * config.reach_in] = 1e6
    side = 2 * round(config.reach_out / cell) + 1
    return enlarge(np.sqrt(cv2.erode(off, np.ones((side, side)))), mask.shape)


def _shaded(
    image: np.ndarray, mask: np.ndarray, background: Background, config: RefineConfig
) -> Background:
    """The background in the person's shadow: darker by a smooth factor, told where its pattern
    shows through, on half of the pixels per side."""
    if background.person is None:
        return background
    half = (mask.shape[1] // 2, mask.shape[0] // 2)
    parts = image, background.colours, background.sigma, background.person, mask
    shown, behind, sigma, person, inside = (
        cv2.resize(part, half, interpolation=cv2.INTER_AREA) for part in parts
    )
    shown = shown.astype(np.float32)
    channels = np.ones((1, 3))
    both, alone = (cv2.transform(part * behind, channels) for part in (shown, behind))
    shade = cv2.blur(both, _SHADE) / np.maximum(cv2.blur(alone, _SHADE), 1)
    shade = np.clip(shade, config.darkest, 1.1)
    off = cv2.blur(cv2.absdiff(shown, behind * shade[..., None]), _HALF_PATCH)
    pattern = cv2.blur(cv2.absdiff(behind, cv2.blur(behind, _SHADE)), _HALF_PATCH)
    off, pattern = (cv2.transform(part, channels / 3) / sigma for part in (off, pattern))
    match = np.clip(2 - 1.5 * off, 0, 1) * np.clip(pattern - 1, 0, 1)
    clear = distances(inside > 0.3) > 10 * max(mask.shape) / 512
    weights = np.where(person < 0.95, np.maximum(match, clear), 0).astype(np.float32)
    size = shrink(mask).shape[::-1]
    total, shaded = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (weights, shade * weights)
    )
    shaded /= np.maximum(total, 1e-6)
    field = push_pull(cv2.merge([shaded] * 3), total)
    factor = enlarge(np.ascontiguousarray(field[..., 0]), mask.shape)
    return dataclasses.replace(background, colours=background.colours * factor[..., None])


def _doubted(
    image: np.ndarray, mask: np.ndarray, background: Background, config: RefineConfig
) -> np.ndarray:
    """The mask where it does not take for the person what it took for the background in other
    frames, though it looks the same."""
    if background.person is None:
        return mask
    off = cv2.absdiff(image.astype(np.float32), background.colours)
    off = cv2.transform(off, np.full((1, 3), 1 / 3)) / background.sigma
    here = np.flatnonzero((mask > 0.02) & (background.person < 0.95))
    match = np.clip(2 - cv2.blur(off, _PATCH).take(here), 0, 1)
    likely = np.clip(mask.take(here), 0.01, 0.99)
    doubt = config.doubt * (1 - background.person.take(here)) * match
    odds = np.log(likely / (1 - likely)) - doubt
    mask = mask.copy()
    mask.reshape(-1)[here] = np.where(match > 0, 1 / (1 + np.exp(-odds)), mask.take(here))
    return mask


def _connected(person: np.ndarray, core: np.ndarray, gap: float) -> np.ndarray:
    """The part that is connected with the core, without specks, and without holes of half width
    under ``gap``."""
    opened = cv2.morphologyEx(person.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = _components((opened > 0) | core, 4)
    keep = np.zeros(count, bool)
    keep[labels[core]] = True
    solid = keep.take(labels)
    count, labels = _components(~solid, 4)
    hole = np.ones(count, bool)
    hole[0] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[edge] = False
    if not hole.any():
        return solid
    hole[labels[hole.take(labels) & (distances(solid) > gap)]] = False
    return solid | hole.take(labels)


def _without_specks(alpha: np.ndarray, area: float) -> np.ndarray:
    """The matte without lone parts smaller than an area in pixels."""
    _, labels = _components(alpha > 0.04, 8)
    large = np.bincount(labels.reshape(-1)) >= area
    return alpha if large.all() else alpha * large.take(labels)


def _components(mask: np.ndarray, connectivity: int) -> tuple[int, np.ndarray]:
    """The number of labels, and those [H, W] of the connected parts of a mask [H, W] bool (0: the
    rest)."""
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)
