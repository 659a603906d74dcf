"""What a network's outputs make of canonical Gaussians, in numba: float32 on the CPU, one Gaussian
at a time. See ``likeness.ops.fused_deform``."""

# pyright: basic

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, helper, kernel

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_SMALL = np.float32(1e-3)  # radians: from here on sin(x) / x is 1 - x² / 6 to the last digit


class Canonical(NamedTuple):
    """Log-scales of Gaussians whose scales change, logits and colours of those that have them; else
    these are empty."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4]
    log_scales: np.ndarray  # [N, 3]
    logits: np.ndarray  # [N]
    colours: np.ndarray  # [N, K, 3]


class Offsets(NamedTuple):
    """Outputs of a network: ``looks`` (0 or 1 + 3 K) logits and harmonics, then a translation, a
    rotation vector and changes of log-scales, each [3], as far as there are so many."""

    values: np.ndarray  # [N, O]
    looks: int
    units: np.ndarray  # [2] of translations and rotations
    limits: np.ndarray  # [2] of log-scales


class Cloud(NamedTuple):
    """What is written: a GaussianCloud's fields. Scales that do not change are not."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray


@helper(ANY_NUMBER)
def _rotate(x, y, z, quat, out):
    """Writes the rotation ``quat`` followed by that of a rotation vector."""
    half = _HALF * np.float32(math.sqrt(x * x + y * y + z * z))
    w, sinc = np.float32(math.cos(half)), _ONE - half * half / np.float32(6)
    if half > _SMALL:
        sinc = np.float32(math.sin(half)) / half
    sinc *= _HALF
    x, y, z = sinc * x, sinc * y, sinc * z
    a, b, c, d = quat[0], quat[1], quat[2], quat[3]
    out[0] = w * a - x * b - y * c - z * d
    out[1] = w * b + x * a + y * d - z * c
    out[2] = w * c - x * d + y * a + z * b
    out[3] = w * d + x * c - y * b + z * a


@kernel()
def activate(first, last, canonical, offsets, cloud):
    """Writes the Gaussians ``first`` to ``last`` of a Cloud."""
    looks, own = offsets.looks, canonical.logits.shape[0] > 0
    motions = offsets.values.shape[1] - looks
    for n in range(first, last):
        values = offsets.values[n]
        for axis in range(3):
            cloud.means[n, axis] = canonical.means[n, axis]
        for k in range(4):
            cloud.quats[n, k] = canonical.quats[n, k]
        if motions > 0:
            metres, radians = offsets.units[0], offsets.units[1]
            for axis in range(3):
                cloud.means[n, axis] += metres * values[looks + axis]
            x, y, z = values[looks + 3], values[looks + 4], values[looks + 5]
            _rotate(radians * x, radians * y, radians * z, canonical.quats[n], cloud.quats[n])
            if motions > 6:
                for axis in range(3):
                    size = canonical.log_scales[n, axis] + values[looks + 6 + axis]
                    size = min(max(size, offsets.limits[0]), offsets.limits[1])
                    cloud.scales[n, axis] = math.exp(size)
        logit = canonical.logits[n] if own else _ZERO
        if looks > 0:
            logit += values[0]
        cloud.opacities[n] = _ONE / (_ONE + np.float32(math.exp(-logit)))
        for k in range(cloud.sh.shape[1]):
            for c in range(3):
                colour = canonical.colours[n, k, c] if own else _ZERO
                if looks > 0:
                    colour += values[1 + 3 * k + c]
                cloud.sh[n, k, c] = colour
