"""Clouds between two frames, in numba: float32 on the CPU, one Gaussian at a time. See
``likeness.ops.deform.skinning``.

frames: [2, 16] of head and body: rotation [9] by rows, translation [3], unit quaternion wxyz [4].
turn: [K - 1, K - 1] rotates the harmonics above the constant one; one block on the diagonal per
    degree.
"""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, inlined, kernel

_ONE = np.float32(1)


@inlined(ANY_NUMBER)
def _moved(frame, x, y, z):
    return (
        frame[0] * x + frame[1] * y + frame[2] * z + frame[9],
        frame[3] * x + frame[4] * y + frame[5] * z + frame[10],
        frame[6] * x + frame[7] * y + frame[8] * z + frame[11],
    )


@inlined(ANY_NUMBER)
def product(aw, ax, ay, az, bw, bx, by, bz):
    """The Hamilton product of two quaternions."""
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


@inlined(ANY_NUMBER)
def _between(frames, w):
    """The blended quaternion, normalised, and one over its length before."""
    head, body = frames[0], frames[1]
    qw = body[12] + w * (head[12] - body[12])
    qx = body[13] + w * (head[13] - body[13])
    qy = body[14] + w * (head[14] - body[14])
    qz = body[15] + w * (head[15] - body[15])
    inverse = _ONE / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    return qw * inverse, qx * inverse, qy * inverse, qz * inverse, inverse


@inlined(ANY_NUMBER)
def _turned(turn, sh, k, first, last):
    """Coefficient ``k`` (red, green, blue) of turned harmonics whose degree holds those from
    ``first`` to ``last``."""
    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
    for j in range(first, last):
        weight = turn[k - 1, j - 1]
        red += weight * sh[j, 0]
        green += weight * sh[j, 1]
        blue += weight * sh[j, 2]
    return red, green, blue


@inlined(ANY_NUMBER)
def _blend_linear(turn, own, w, out):
    """Writes the harmonics of degree 1, the default avatar's, for a head weight w: loops of known
    length."""
    v = _ONE - w
    for c in range(3):
        a, b, d = own[1, c], own[2, c], own[3, c]
        out[1, c] = w * a + v * (turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * d)
        out[2, c] = w * b + v * (turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * d)
        out[3, c] = w * d + v * (turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * d)


@inlined(ANY_NUMBER)
def _blend_linear_backward(turn, own, w, gradient, out):
    """Writes their gradients to ``out``; returns the gradient by the weight."""
    v, total = _ONE - w, np.float32(0)
    for c in range(3):
        a, b, d = own[1, c], own[2, c], own[3, c]
        r, s, t = gradient[1, c], gradient[2, c], gradient[3, c]
        out[1, c] = w * r + v * (turn[0, 0] * r + turn[1, 0] * s + turn[2, 0] * t)
        out[2, c] = w * s + v * (turn[0, 1] * r + turn[1, 1] * s + turn[2, 1] * t)
        out[3, c] = w * t + v * (turn[0, 2] * r + turn[1, 2] * s + turn[2, 2] * t)
        total += r * (a - turn[0, 0] * a - turn[0, 1] * b - turn[0, 2] * d)
        total += s * (b - turn[1, 0] * a - turn[1, 1] * b - turn[1, 2] * d)
        total += t * (d - turn[2, 0] * a - turn[2, 1] * b - turn[2, 2] * d)
    return total


@inlined(ANY_NUMBER)
def place_one(n, w, x, y, z, qw, qx, qy, qz, own, frames, turn, out_means, out_quats, out_sh):
    """Writes Gaussian ``n``, which has the head's weight w, mean, quaternion and harmonics ``own``
    [K, 3]."""
    count = out_sh.shape[1]
    hx, hy, hz = _moved(frames[0], x, y, z)
    bx, by, bz = _moved(frames[1], x, y, z)
    out_means[n, 0], out_means[n, 1], out_means[n, 2] = (
        bx + w * (hx - bx),
        by + w * (hy - by),
        bz + w * (hz - bz),
    )
    aw, ax, ay, az, _ = _between(frames, w)
    out_quats[n, 0], out_quats[n, 1], out_quats[n, 2], out_quats[n, 3] = product(
        aw, ax, ay, az, qw, qx, qy, qz
    )
    out = out_sh[n]
    out[0, 0], out[0, 1], out[0, 2] = own[0, 0], own[0, 1], own[0, 2]
    start, end = 1, 4
    if count == 4:
        _blend_linear(turn, own, w, out)
        start = count
    while start < count:
        for k in range(start, end):
            red, green, blue = _turned(turn, own, k, start, end)
            out[k, 0] = red + w * (own[k, 0] - red)
            out[k, 1] = green + w * (own[k, 1] - green)
            out[k, 2] = blue + w * (own[k, 2] - blue)
        start, end = end, 2 * end - start + 2


@kernel()
def blend(first, last, means, quats, sh, weights, frames, turn, out_means, out_quats, out_sh):
    """Writes the Gaussians ``first`` to ``last``; weights [N] of the head."""
    for n in range(first, last):
        place_one(
            n,
            weights[n],
            means[n, 0],
            means[n, 1],
            means[n, 2],
            quats[n, 0],
            quats[n, 1],
            quats[n, 2],
            quats[n, 3],
            sh[n],
            frames,
            turn,
            out_means,
            out_quats,
            out_sh,
        )


@kernel()
def blend_backward(
    first,
    last,
    means,
    quats,
    sh,
    weights,
    frames,
    turn,
    by_means,
    by_quats,
    by_sh,
    g_means,
    g_quats,
    g_sh,
    g_weights,
):
    """Writes the gradients ``g_*`` of the Gaussians ``first`` to ``last`` from those of the
    results, ``by_*``."""
    head, body, count = frames[0], frames[1], sh.shape[1]
    for n in range(first, last):
        w, x, y, z = weights[n], means[n, 0], means[n, 1], means[n, 2]
        v, gx, gy, gz = _ONE - w, by_means[n, 0], by_means[n, 1], by_means[n, 2]
        hx, hy, hz = _moved(head, x, y, z)
        bx, by, bz = _moved(body, x, y, z)
        total = gx * (hx - bx) + gy * (hy - by) + gz * (hz - bz)
        for c in range(3):
            g_means[n, c] = (
                gx * (w * head[c] + v * body[c])
                + gy * (w * head[3 + c] + v * body[3 + c])
                + gz * (w * head[6 + c] + v * body[6 + c])
            )

        qw, qx, qy, qz, inverse = _between(frames, w)
        gw, gx, gy, gz = by_quats[n, 0], by_quats[n, 1], by_quats[n, 2], by_quats[n, 3]
        g_quats[n, 0], g_quats[n, 1], g_quats[n, 2], g_quats[n, 3] = product(
            qw, -qx, -qy, -qz, gw, gx, gy, gz
        )
        pw, px, py, pz = product(
            gw, gx, gy, gz, quats[n, 0], -quats[n, 1], -quats[n, 2], -quats[n, 3]
        )
        along = pw * qw + px * qx + py * qy + pz * qz
        total += inverse * (
            (pw - along * qw) * (head[12] - body[12])
            + (px - along * qx) * (head[13] - body[13])
            + (py - along * qy) * (head[14] - body[14])
            + (pz - along * qz) * (head[15] - body[15])
        )

        own, gradient, out = sh[n], by_sh[n], g_sh[n]
        out[0, 0], out[0, 1], out[0, 2] = gradient[0, 0], gradient[0, 1], gradient[0, 2]
        if count == 4:
            g_weights[n] = total + _blend_linear_backward(turn, own, w, gradient, out)
            continue
        start, end = 1, 4
        while start < count:
            for k in range(start, end):
                out[k, 0], out[k, 1], out[k, 2] = (
                    w * gradient[k, 0],
                    w * gradient[k, 1],
                    w * gradient[k, 2],
                )
            for k in range(start, end):
                red, green, blue = _turned(turn, own, k, start, end)
                r, g, b = gradient[k, 0], gradient[k, 1], gradient[k, 2]
                total += r * (own[k, 0] - red) + g * (own[k, 1] - green) + b * (own[k, 2] - blue)
                for j in range(start, end):
                    weight = v * turn[k - 1, j - 1]
                    out[j, 0] += weight * r
                    out[j, 1] += weight * g
                    out[j, 2] += weight * b
            start, end = end, 2 * end - start + 2
        g_weights[n] = total
