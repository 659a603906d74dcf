"""Frozen avatars' clouds, in numba: float32 on the CPU, one Gaussian at a time. See
``likeness.ops.deform.fused``.

frames and turn: see ``likeness.ops.deform.skinning_kernels``; sheet and constants: see
    ``likeness.ops.deform.motion_kernels``.
"""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, helper, kernel
from likeness.ops.deform.motion_kernels import offset, softness, weighed_corners
from likeness.ops.deform.skinning_kernels import place_one, product

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_SMALL = np.float32(1e-3)  # radians: from here on sin(x) / x is 1 - x² / 6 to the last digit


@helper(ANY_NUMBER)
def _turned(x, y, z, qw, qx, qy, qz):
    """A unit quaternion, then a rotation vector."""
    half = _HALF * np.float32(math.sqrt(x * x + y * y + z * z))
    cosine, sinc = np.float32(math.cos(half)), _ONE - half * half / np.float32(6)
    if half > _SMALL:
        sinc = np.float32(math.sin(half)) / half
    sinc *= _HALF
    return product(cosine, sinc * x, sinc * y, sinc * z, qw, qx, qy, qz)


@helper(ANY_NUMBER)
def _sigmoid(x):
    return _ONE / (_ONE + np.float32(math.exp(-x)))


@kernel()
def place(
    first,
    last,
    values,
    looks,
    units,
    limits,
    means,
    quats,
    log_scales,
    logits,
    colours,
    weights,
    corners,
    corner_weights,
    vertices,
    sheet,
    constants,
    frames,
    turn,
    out_means,
    out_quats,
    out_scales,
    out_opacities,
    out_sh,
):
    """Writes the Gaussians ``first`` to ``last``.

    values: [N, O]. The first ``looks`` of them, 0 or 1 + 3 K, are added to logits [N] and colours
    [N, K, 3]; then come a shift and a turn in ``units`` [2] and growths of the log-scales, each
    [3], as far as O reaches; limits: [2] of the log-scales. weights: [N] of the head. corners: [N,
    3] of a rig, with corner_weights [N, 3]; vertices: [V, 3], how far it moves. Empty: logits and
    colours that are 0, corners, sheet. Scales that do not grow are not written.
    """
    count, motions = out_sh.shape[1], values.shape[1] - looks
    own = np.zeros((count, 3), np.float32)
    for n in range(first, last):
        x, y, z = means[n, 0], means[n, 1], means[n, 2]
        qw, qx, qy, qz = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        if motions > 0:
            moves = values[n, looks:]
            x, y, z = x + units[0] * moves[0], y + units[0] * moves[1], z + units[0] * moves[2]
            u, v, w = units[1] * moves[3], units[1] * moves[4], units[1] * moves[5]
            qw, qx, qy, qz = _turned(u, v, w, qw, qx, qy, qz)
            if motions > 6:
                for c in range(3):
                    size = log_scales[n, c] + moves[6 + c]
                    out_scales[n, c] = math.exp(min(max(size, limits[0]), limits[1]))
        if corners.shape[0] > 0:
            u, v, w = weighed_corners(n, corners, corner_weights, vertices)
            x, y, z = x + u, y + v, z + w
        if sheet.shape[0] > 0:
            # as ``sway``: a function of it would cost a sixth
            soft, _, _, _ = softness(x, y, z, constants)
            if soft != _ZERO:
                dx, dy = offset(x, y, sheet, constants)
                x += soft * dx
                y += soft * dy
        look, logit = values[n], _ZERO
        if logits.shape[0] > 0:
            logit = logits[n]
        if looks > 0:
            logit += look[0]
        out_opacities[n] = _sigmoid(logit)
        for k in range(count):
            for c in range(3):
                colour = _ZERO
                if logits.shape[0] > 0:
                    colour = colours[n, k, c]
                if looks > 0:
                    colour += look[1 + 3 * k + c]
                own[k, c] = colour
        place_one(
            n, weights[n], x, y, z, qw, qx, qy, qz, own, frames, turn, out_means, out_quats, out_sh
        )
