"""Rotations, for the kernels: formulas and their order are those of
``likeness.scene.transforms``."""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit
def quaternion(r00, r01, r02, r10, r11, r12, r20, r21, r22):
    """``matrices_to_quats``: of four scaled copies of the quaternion, the one with the largest
    component."""
    a = r21 - r12
    b = r02 - r20
    c = r10 - r01
    d = r10 + r01
    e = r02 + r20
    f = r21 + r12
    largest = 1 + r00 + r11 + r22
    w, x, y, z = largest, a, b, c
    t = 1 + r00 - r11 - r22
    better = t > largest
    largest = tl.where(better, t, largest)
    w, x, y, z = (
        tl.where(better, a, w),
        tl.where(better, t, x),
        tl.where(better, d, y),
        tl.where(better, e, z),
    )
    t = 1 - r00 + r11 - r22
    better = t > largest
    largest = tl.where(better, t, largest)
    w, x, y, z = (
        tl.where(better, b, w),
        tl.where(better, d, x),
        tl.where(better, t, y),
        tl.where(better, f, z),
    )
    t = 1 - r00 - r11 + r22
    better = t > largest
    w, x, y, z = (
        tl.where(better, c, w),
        tl.where(better, e, x),
        tl.where(better, f, y),
        tl.where(better, t, z),
    )
    scale = 1 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    scale = tl.where(w < 0, -scale, scale)
    return w * scale, x * scale, y * scale, z * scale


@triton.jit
def angle_over_sine(w, x, y, z):
    """What takes the vector part of a unit quaternion to its rotation vector."""
    square = x * x + y * y + z * z
    sine = tl.sqrt(tl.maximum(square, 1e-14))
    factor = tl.where(square < 1e-8, 2.0, 2 * arctangent(sine, tl.abs(w)) / sine)
    return tl.where(w < 0, -factor, factor)


@triton.jit
def arctangent(y, x):
    """atan2(y, x) of y, x >= 0, not both 0, in single precision; the polynomial is that of Cephes'
    atanf."""
    steep = y > x
    t = tl.where(steep, x, y) / tl.where(steep, y, x)
    large = t > 0.4142135623730950  # tan(pi / 8)
    t = tl.where(large, (t - 1) / (t + 1), t)
    z = t * t
    series = (
        (8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1
    ) * z - 3.33329491539e-1
    angle = series * z * t + t + tl.where(large, 0.7853981633974483, 0.0)
    return tl.where(steep, 1.5707963267948966 - angle, angle)


@triton.jit
def turned_by(x, y, z):
    """``rotvecs_to_quats``."""
    square = (x * x + y * y + z * z) / 4
    half = tl.sqrt(tl.maximum(square, 1e-12))
    small = square < 1e-6
    sinc = tl.where(small, 1 - square / 6, tl.sin(half) / half) / 2
    w = tl.where(small, 1 - square / 2, tl.cos(half))
    x, y, z = x * sinc, y * sinc, z * sinc
    scale = 1 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w * scale, x * scale, y * scale, z * scale


@triton.jit
def product(aw, ax, ay, az, bw, bx, by, bz):
    """``multiply_quats``."""
    w = aw * bw - ax * bx - ay * by - az * bz
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    return w, x, y, z
