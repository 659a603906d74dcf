"""The person's own colours at the soft edge of a matte, without the background that shines
through."""

from __future__ import annotations

import numpy as np

from likeness.preprocess.matting.grid import distances, enlarge, masked_means, push_pull

_SURE = 250  # of 255: from here on a pixel shows nothing but the person
_REACH = 12.0  # pixels at 512 around the soft edge in which background colours are taken
_SPREAD_F, _SPREAD_B, _NOISE = 12.0, 4.0, 3.0  # least standard deviations in 8-bit levels


def estimate(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Image [H, W, 3] uint8 whose soft pixels show the foreground's colour; elsewhere the original
    pixels.

    image: [H, W, 3] uint8. alpha: [H, W] uint8. The colours of foreground and background are
    expected to be those of the nearest opaque and empty pixels, each with its spread; what the
    pixel itself shows then decides. Where nothing is opaque the image comes back unchanged.
    """
    if image.shape[:2] != alpha.shape or image.dtype != np.uint8 or alpha.dtype != np.uint8:
        raise ValueError(
            f"foreground: expected uint8 image [H, W, 3] and alpha [H, W], got {image.shape} "
            f"{image.dtype} and {alpha.shape} {alpha.dtype}"
        )
    out = image.copy()
    soft = (alpha > 0) & (alpha < 255)
    opaque = alpha >= _SURE
    if not soft.any() or not opaque.any():
        return out
    empty = alpha == 0
    # Pixels beside soft ones may still be mixtures; where too few others are left, they have to do.
    beside = distances(soft)
    unit = max(alpha.shape) / 512
    inner, outer = (
        opaque & (beside > 1.5 * unit),
        empty & (beside > 1.5 * unit) & (beside < _REACH * unit),
    )
    near = _expected(image, inner if inner.any() else opaque, _SPREAD_F)
    behind = _expected(image, outer if outer.any() else empty, _SPREAD_B) if empty.any() else near
    # The most probable F under I = alpha F + (1 - alpha) B + noise, with Gaussians for F and B.
    here = np.flatnonzero(soft)
    a = alpha.take(here).astype(np.float32) / 255
    f, b = (
        enlarge(field, alpha.shape).reshape(-1, 4).take(here, axis=0).T for field in (near, behind)
    )
    gain = a * f[3] ** 2
    gain /= a * gain + (1 - a) ** 2 * b[3] ** 2 + _NOISE**2
    colours = out.reshape(-1, 3)
    value = f[:3] + gain * (colours.take(here, axis=0).T - a * f[:3] - (1 - a) * b[:3])
    colours[here] = (np.clip(value, 0, 255) + 0.5).T
    return out


def _expected(image: np.ndarray, known: np.ndarray, spread: float) -> np.ndarray:
    """Colour and standard deviation [h, w, 4] on the grid, by the nearest known pixels."""
    field = push_pull(*masked_means(image, known))
    field[..., 3] += spread
    return field
