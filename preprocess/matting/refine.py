"""From a coarse mask of a person to an alpha matte, given what is behind: colours decide where they
can."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from likeness.preprocess.matting.grid import distances, enlarge, masked_means, push_pull
from likeness.preprocess.matting.kernels import Knowns, OddsLimits, unmix_kernel
from likeness.preprocess.matting.plate import Background

_PATCH = (7, 7)  # pixels that must look like the background together


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
    gap: float = 3.5
    """Half the width from which on a gap in the person, with background in it, stays open; narrower
    ones (an earring the colour of the wall) are closed."""
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
    mask = _doubted(image, mask, background, config)
    core = distances(mask < 0.9) > config.reach_in * unit
    band = (distances(mask > 0.5) < config.reach_out * unit) & ~core
    if not core.any() or not band.any():
        return mask.copy()
    mixed, trust, odds = (np.empty(mask.shape, np.float32) for _ in range(3))
    largest = (config.prior_inside, config.prior_outside, config.evidence_limit, config.ringing)
    limits = OddsLimits(*map(np.float32, largest))
    # Foreground colours first from deep inside, then from all that the first round takes for the
    # person.
    for first in (True, False):
        sure = core if first else core | (distances(odds < 1.5) > 2.5 * unit)
        nearest = push_pull(*masked_means(image, sure))
        nearest[..., 3] += config.foreground_noise
        near = enlarge(nearest, mask.shape)
        knowns = Knowns(image, mask, band, core, background.colours, background.sigma, near)
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
    alpha.reshape(-1)[here] = np.maximum(soft + trust * (mixed - soft), inner) * outer
    return _without_specks(alpha, config.speck * unit**2)


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
