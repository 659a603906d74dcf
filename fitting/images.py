"""Images for people: errors as heat, depth as colour."""

from __future__ import annotations

from typing import Any

import numpy as np

ERROR_SCALE = 0.25
"""Mean absolute difference that is drawn brightest."""


def to_uint8(image: Any) -> np.ndarray:
    """[H, W, C] uint8 of an image in [0, 1] (array or tensor), or of one that is uint8 already."""
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def error_map(truth: Any, avatar: Any) -> np.ndarray:
    """Heat of the mean absolute difference of two images [H, W, 3] in [0, 1]: black none, yellow
    0.25. uint8 RGB."""
    import cv2

    difference = np.abs(to_uint8(truth).astype(np.float32) - to_uint8(avatar)).mean(-1) / 255
    levels = to_uint8(difference / ERROR_SCALE)
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].copy()


def depth_map(
    depth: np.ndarray, alpha: np.ndarray, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Expected depth [H, W] as colour [H, W, 3], near bright, far dark, between two depths in
    metres (if none are given, over the range that is covered); uint8.

    White where ``alpha`` [H, W] is below a half.
    """
    import cv2

    covered = alpha > 0.5
    near, far = limits or (0.0, 1.0)
    if limits is None and covered.any():
        near, far = np.percentile(depth[covered], (1, 99))
    levels = to_uint8(np.clip((far - depth) / max(far - near, 1e-6), 0, 1))
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    return np.where(covered[..., None], colours, 255).astype(np.uint8)
