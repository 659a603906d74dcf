"""What is behind the person: a plate that grows while the person moves, and a smooth guess where
nothing was seen."""

from __future__ import annotations

import dataclasses

import numpy as np

from likeness.preprocess.matting.grid import (
    enlarge,
    inliers,
    masked_means,
    push_pull,
    shrink,
    smooth_field,
)
from likeness.preprocess.matting.kernels import background_kernel, learn_kernel

_LIGHT_CELLS = 8
"""Cells of the grid over which a change counts as one of light, not of things."""


@dataclasses.dataclass(frozen=True)
class PlateConfig:
    """How the background is followed. Noise in 8-bit levels, lengths in pixels of a picture 512 on
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
    """What is known of the background of one frame, for the kernels: see ``colours`` for what it
    means.

    mean [H, W, 3] and deviation [H, W]: of colours seen before; seen [H, W] bool. light [h, w, 3]:
    change of the light since then. guess [h, w, 4]: colour and standard deviation where nothing was
    seen. noise: least deviation if seen.
    """

    mean: np.ndarray
    deviation: np.ndarray
    seen: np.ndarray
    light: np.ndarray
    guess: np.ndarray
    noise: float

    def copy(self) -> Background:
        """One that stays as it is when the plate it comes from looks at the next frame."""
        mean, deviation, seen = self.mean.copy(), self.deviation.copy(), self.seen.copy()
        return dataclasses.replace(self, mean=mean, deviation=deviation, seen=seen)

    def colours(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours [H, W, 3] and standard deviations [H, W] in 8-bit levels at every pixel."""
        out = np.empty((*self.seen.shape, 4), np.float32)
        background_kernel(
            self.mean,
            self.deviation,
            self.seen,
            self.light,
            self.guess,
            np.float32(self.noise),
            out,
        )
        return out[..., :3], out[..., 3]


class BackgroundPlate:
    """The running mean of the background of a camera that stands still, corrected for the light of
    each frame.

    Where the camera moves, the plate is dropped and each frame's background is guessed from its own
    visible part.
    """

    def __init__(self, config: PlateConfig = PlateConfig()) -> None:
        self.config = config
        self._mean = np.zeros((0, 0, 3), np.float32)

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
        learn_kernel(
            image,
            enlarge(weights, image.shape),
            light,
            self._mean,
            self._deviation,
            self._seen,
            config.rate,
        )
        return Background(
            self._mean, self._deviation, self._seen, light, guess, config.sensor_noise
        )

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
        self._deviation = np.zeros(shape[:2], np.float32)
        self._seen = np.zeros(shape[:2], bool)
