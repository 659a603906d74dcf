"""Errors of alpha mattes against the truth: SAD, MSE, gradient and connectivity of Rhemann et al.,
"A Perceptually Motivated Online Benchmark for Image Matting" (CVPR 2009), and dtSSD of Erofeev et
al., "Perceptually Motivated Benchmark for Video Matting" (BMVC 2015)."""

from __future__ import annotations

import numpy as np

FIGURES = ("sad", "mse", "gradient", "connectivity", "flicker")
_GRADIENT_SIGMA = 1.4
_LEVEL_STEP, _LEAST_GAP = 0.1, 0.15


def matte_errors(
    alphas: np.ndarray, truths: np.ndarray, where: np.ndarray | None = None
) -> dict[str, float]:
    """Errors of mattes [T, H, W] of consecutive frames in [0, 1], means over the frames.

    where: bool [T, H, W], the pixels that count; all if none. sad, gradient and connectivity are
    sums over pixels in thousands, mse in thousandths, flicker (dtSSD) the root of the sum of the
    squared errors of the change to the next frame.
    """
    here = np.ones(truths.shape, bool) if where is None else where
    rows = [_still(*pair) for pair in zip(alphas, truths, here, strict=True)]
    change = np.diff(alphas.astype(np.float32), axis=0) - np.diff(truths.astype(np.float32), axis=0)
    flicker = np.sqrt((np.square(change) * (here[1:] | here[:-1])).sum((1, 2)))
    means = np.mean(rows, 0)
    return dict(zip(FIGURES, [*means.tolist(), float(flicker.mean())], strict=True))


def _still(alpha: np.ndarray, truth: np.ndarray, here: np.ndarray) -> tuple[float, ...]:
    off = alpha - truth
    slopes = gradient_norm(alpha) - gradient_norm(truth)
    gaps = connectedness(alpha, truth)
    return (
        float(np.abs(off[here]).sum() / 1000),
        float(1000 * np.square(off[here]).mean()),
        float(np.square(slopes[here]).sum() / 1000),
        float(gaps[here].sum() / 1000),
    )


def gradient_norm(alpha: np.ndarray) -> np.ndarray:
    """Length of the gradient [H, W], by Gaussian derivatives of unit length."""
    import cv2

    reach = int(np.ceil(3 * _GRADIENT_SIGMA))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * _GRADIENT_SIGMA**2))
    slope = -x / _GRADIENT_SIGMA**2 * smooth
    kernel = np.outer(smooth, slope)
    kernel /= np.sqrt(np.square(kernel).sum())
    values = alpha.astype(np.float32)
    parts = [
        cv2.filter2D(values, cv2.CV_32F, part, borderType=cv2.BORDER_REPLICATE)
        for part in (kernel, kernel.T)
    ]
    return np.hypot(*parts)


def connectedness(alpha: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How differently the pixels [H, W] hang together with the largest region that is opaque in
    both mattes.

    The level of a pixel is the highest threshold at which it is still connected with that region;
    what a matte exceeds it by counts from 0.15 on.
    """
    import cv2

    levels = np.full(alpha.shape, -1.0)
    thresholds = np.arange(0, 1 + _LEVEL_STEP / 2, _LEVEL_STEP)
    for before, threshold in zip(thresholds, thresholds[1:]):
        both = ((alpha >= threshold) & (truth >= threshold)).astype(np.uint8)
        count, labels = cv2.connectedComponents(both, connectivity=4)
        largest = np.zeros(alpha.shape, bool)
        if count > 1:
            areas = np.bincount(labels.ravel(), minlength=count)
            largest = labels == 1 + areas[1:].argmax()
        levels[(levels < 0) & ~largest] = before
    levels[levels < 0] = 1
    parts = []
    for values in (alpha, truth):
        gap = values - levels
        parts.append(1 - gap * (gap >= _LEAST_GAP))
    return np.abs(parts[0] - parts[1])
