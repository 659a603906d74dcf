"""From a coarse mask of a person to an alpha matte, given what is behind: colours decide where they can."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from preprocess.matting.grid import distances, enlarge, push_pull, shrink
from preprocess.matting.kernels import unmix_kernel
from preprocess.matting.plate import Background


@dataclasses.dataclass(frozen=True)
class RefineConfig:
    """Refinement of a coarse mask. Lengths are in pixels of a picture whose longer side is 512."""

    reach_out: float = 30.0
    """How far outside the mask loose hair is looked for."""
    reach_in: float = 12.0
    """How far inside the mask background is looked for."""
    solid: float = 6.0
    """Depth inside the person from which on everything is opaque."""
    gap: float = 3.5
    """Half the width from which on a gap in the person, with background in it, stays open; narrower ones (an earring
    the colour of the wall) are closed."""
    prior_inside: float = 6.0
    """Largest log odds that the coarse mask gives for the person: as much as colour can give against it."""
    prior_outside: float = 3.0
    """Largest log odds that the coarse mask gives for the background; less, as it does not know loose hair."""
    speck: float = 20.0
    """Area in pixels below which a lone part of the matte is dropped."""
    evidence_limit: float = 6.0
    """Largest log odds of colour."""
    foreground_noise: float = 8.0
    """Least spread of foreground colours in 8-bit levels."""
    calm_contrast: float = 30.0
    """Difference of person and background in 8-bit levels below which edges are smoothed more."""


def refine(image: np.ndarray, mask: np.ndarray, background: Background, config: RefineConfig) -> np.ndarray:
    """Alpha [H, W] float32 in [0, 1] of image [H, W, 3] uint8 and mask [H, W] float32 (probability of the person).

    Every pixel near the mask's edge is taken for a mixture of the background behind it and of the nearest sure colour
    of the person. What the mixture says is weighed against the mask by how different the two colours are.
    """
    unit = max(mask.shape) / 512
    core = distances(mask < 0.9) > config.reach_in * unit
    band = (distances(mask > 0.5) < config.reach_out * unit) & ~core
    if not core.any() or not band.any():
        return mask.copy()
    frame = image.astype(np.float32)
    prior = np.clip(mask, 1e-4, 1 - 1e-4)
    prior = np.clip(cv2.log(prior / (1 - prior)), -config.prior_outside, config.prior_inside)
    mixed, trust = core.astype(np.float32), np.ones_like(mask)
    limit = 2 * config.evidence_limit
    sure = core
    # Foreground colours first from deep inside, then from all that the first round found to be person.
    for _ in range(2):
        near = _near_colours(frame, sure, config.foreground_noise)
        unmix_kernel(
            image, band, background.mean, background.deviation, background.seen, background.light, background.guess,
            np.float32(background.noise), near, mixed, trust,
        )  # fmt: skip
        odds = prior + limit * trust * (mixed - 0.5)
        odds[~band] = np.where(core[~band], limit, -limit)
        sure = (distances(odds < 1.5) > 2.5 * unit) | core
    contrast = np.linalg.norm(near[..., :3] - background.guess[..., :3], axis=-1)
    clear = enlarge(contrast**2 / (contrast**2 + config.calm_contrast**2), mask.shape)
    odds = cv2.blur(odds, (9, 9)) * (1 - clear) + cv2.blur(odds, (3, 3)) * clear
    trust *= clear
    solid = _connected(odds > 0, core, config.gap * unit)
    depth = distances(~solid) / unit
    away = distances(solid) / unit
    soft = 1 / (1 + cv2.exp(-odds))
    alpha = soft + trust * (mixed - soft)
    alpha = np.maximum(alpha, np.clip((depth - 1) / (config.solid - 1), 0, 1))
    alpha *= np.clip((config.reach_out - away) / (0.5 * config.reach_out), 0, 1)
    return _without_specks(np.where(band, alpha, core), config.speck * unit**2)


def _near_colours(frame: np.ndarray, sure: np.ndarray, noise: float) -> np.ndarray:
    """Colour of the nearest sure foreground and its spread [h, w, 4] on the grid."""
    inside = sure.astype(np.float32)
    weights = shrink(inside)
    colours = shrink(frame * inside[..., None]) / np.maximum(weights, 1e-3)[..., None]
    field, spread = push_pull(colours, weights)
    return np.dstack([field, spread + np.float32(noise)])


def _connected(person: np.ndarray, core: np.ndarray, gap: float) -> np.ndarray:
    """The part that is connected with the core, without specks, and without holes of half width under ``gap``."""
    opened = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(opened | core.view(np.uint8), connectivity=4)
    kept = np.zeros(count, bool)
    kept[np.unique(labels[core])] = True
    kept[0] = False
    solid = kept[labels]
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~solid).view(np.uint8), connectivity=4)
    height, width = person.shape
    left, top, w, h, _ = stats.T
    hole = (left > 0) & (top > 0) & (left + w < width) & (top + h < height)
    hole[np.unique(labels[distances(solid) > gap])] = False
    hole[0] = False
    return solid | hole[labels]


def _without_specks(alpha: np.ndarray, area: float) -> np.ndarray:
    """The matte without lone parts smaller than an area in pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.04).view(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= area
    return alpha * kept[labels]
