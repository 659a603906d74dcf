"""What is behind the person: a plate that grows while the person moves, and a smooth guess where
nothing was seen."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from likeness.preprocess.matting.grid import (
    enlarge,
    inliers,
    masked_means,
    push_pull,
    shrink,
    smooth_field,
)
from likeness.preprocess.matting.survey import StaticLayer

_LIGHT_CELLS = 8
"""Cells of the grid over which a change counts as one of light, not of things."""


@dataclasses.dataclass(frozen=True)
class PlateConfig:
    """How the background is followed. Noise in 8-bit levels, lengths in pixels of an image 512 on
    its longer side."""

    clear: float = 30.0
    """Distance from the mask from which on a pixel may be background."""
    far: float = 60.0
    """Distance from the mask from which on it is; nearer, what does not fit the rest is taken for
    loose hair."""
    rate: float = 0.05
    """Weight of a new frame in the running mean."""
    sensor_noise: float = 3.0
    """Least standard deviation of a colour that was seen before."""
    guess_noise: float = 5.0
    """Least standard deviation of a colour filled in from around."""
    reset_residual: float = 12.0
    """Mean absolute change, after correction for light, that means another background (the camera
    moved)."""


@dataclasses.dataclass(frozen=True)
class Background:
    """The background of one frame, in 8-bit levels.

    colours: [H, W, 3] at every pixel, with standard deviations sigma [H, W]. guess: [h, w, 4]
    colours and deviations on the grid, as filled in where the background was never seen. person:
    [H, W] the mean probability of the person in the frames of the clip that showed these colours,
    1 where it is not known; None where nothing is.
    """

    colours: np.ndarray
    sigma: np.ndarray
    guess: np.ndarray
    person: np.ndarray | None = None


class BackgroundPlate:
    """The running mean of the background of a camera that stands still, corrected for the light of
    each frame.

    static: what is known beforehand. Where the camera moves, the plate is dropped and each frame's
    background is guessed from its own visible part.
    """

    def __init__(
        self, config: PlateConfig = PlateConfig(), static: StaticLayer | None = None
    ) -> None:
        self.config = config
        self._reset((0, 0, 3))
        if static is not None:
            self._mean, self._deviation, self._seen = (
                part.copy() for part in (static.colours, static.deviation, static.known)
            )
            self._scratch = np.empty_like(self._mean)
            self._person = np.where(static.known, static.person, np.float32(1))

    def look(self, image: np.ndarray, away: np.ndarray) -> Background | None:
        """Background behind a frame, which then joins the plate; None where no background was ever
        visible.

        image: [H, W, 3] uint8. away: [h, w] distance from the person's mask on the grid, in pixels
            at 512.
        """
        config = self.config
        if self._mean.shape != image.shape:
            self._reset(image.shape)
        small = shrink(image)
        weights = (away > config.clear).astype(np.float32)
        if weights.any():
            weights *= np.maximum(inliers(small, weights), away > config.far)
        remembered, seen = masked_means(self._mean, self._seen)
        light = self._light(small - remembered, weights, seen)
        if light is None:
            self._reset(image.shape)
            seen[:] = 0
            light = np.zeros_like(small)
        remembered += light
        old = (seen > 0.5) * (1 - weights)
        total = weights + old
        if not total.any():
            return None
        known = (small * weights[..., None] + remembered * old[..., None]) / np.maximum(
            total, 1e-6
        )[..., None]
        guess = smooth_field(known, np.minimum(total, 1))
        guess[..., 3] += config.guess_noise
        light_here = enlarge(light, image.shape)
        before = cv2.subtract(image, light_here, dst=self._scratch, dtype=cv2.CV_32F)
        self._learn(before, enlarge(weights, image.shape) > 0.5)
        colours = enlarge(np.ascontiguousarray(guess[..., :3]), image.shape)
        sigma = enlarge(np.ascontiguousarray(guess[..., 3]), image.shape)
        seen_before = self._seen.view(np.uint8)
        cv2.copyTo(cv2.add(self._mean, light_here, dst=light_here), seen_before, colours)
        # 1.25 turns a mean absolute deviation into a standard one
        deviation = np.maximum(1.25 * self._deviation, config.sensor_noise)
        cv2.copyTo(deviation, seen_before, sigma)
        return Background(colours, sigma, guess, self._person)

    def _learn(self, image: np.ndarray, clear: np.ndarray) -> None:
        """Joins the pixels ``clear`` [H, W] of an image [H, W, 3], in the light of when the plate
        was first seen, to the running mean and mean absolute deviation; overwrites the image."""
        rate = self.config.rate
        again = (clear & self._seen).view(np.uint8)
        first = (clear & ~self._seen).view(np.uint8)
        cv2.accumulateWeighted(image, self._mean, rate, again)
        cv2.copyTo(image, first, self._mean)
        # from the mean before: from the new one it is the smaller by 1 - rate
        change = cv2.absdiff(image, self._mean, dst=image)
        change = cv2.transform(change, np.full((1, 3), 1 / (3 * (1 - rate))))
        cv2.accumulateWeighted(change, self._deviation, rate, again)
        self._seen |= clear

    def _light(
        self, change: np.ndarray, weights: np.ndarray, seen: np.ndarray
    ) -> np.ndarray | None:
        """Change of light [h, w, 3] since the plate was seen, or None where it is no longer the
        same background.

        change: of colours [h, w, 3], where ``weights`` [h, w] says background and the share
            ``seen`` is one.
        """
        both = weights * (seen > 0.99)
        if both.sum() <= 0.1 * weights.sum():
            return None if weights.any() else np.zeros_like(change)
        light = np.ascontiguousarray(push_pull(change, both, finest=_LIGHT_CELLS)[..., :3])
        residual = float((np.abs(change - light).mean(-1) * both).sum() / both.sum())
        return light if residual <= self.config.reset_residual else None

    def _reset(self, shape: tuple[int, ...]) -> None:
        self._mean = np.zeros(shape, np.float32)
        self._scratch = np.empty(shape, np.float32)
        self._deviation = np.zeros(shape[:2], np.float32)
        self._seen = np.zeros(shape[:2], bool)
        self._person: np.ndarray | None = None
