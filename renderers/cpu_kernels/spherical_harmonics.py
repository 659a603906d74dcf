"""Colours from spherical harmonics, and back; the order and signs of ``likeness.ops.harmonics``."""

# pyright: basic

from __future__ import annotations

from likeness.ops import harmonics
from likeness.ops.compilation import helper
from likeness.renderers.cpu_kernels.layout import TWO, ZERO, F

C0, C1 = F(harmonics.C0), F(harmonics.C1)
C20, C21, C22, C23, C24 = (F(value) for value in harmonics.C2)
C30, C31, C32, C33, C34, C35, C36 = (F(value) for value in harmonics.C3)
THREE, FOUR, SIX, EIGHT = F(3), F(4), F(6), F(8)


@helper()
def sh_basis(x, y, z, count, basis):
    """Writes the first ``count`` (1, 4, 9 or 16) harmonics at a unit direction to ``basis``."""
    basis[0] = C0
    if count > 1:
        basis[1] = -C1 * y
        basis[2] = C1 * z
        basis[3] = -C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        basis[4] = C20 * x * y
        basis[5] = C21 * y * z
        basis[6] = C22 * (TWO * zz - xx - yy)
        basis[7] = C23 * x * z
        basis[8] = C24 * (xx - yy)
        if count > 9:
            basis[9] = C30 * y * (THREE * xx - yy)
            basis[10] = C31 * x * y * z
            basis[11] = C32 * y * (FOUR * zz - xx - yy)
            basis[12] = C33 * z * (TWO * zz - THREE * xx - THREE * yy)
            basis[13] = C34 * x * (FOUR * zz - xx - yy)
            basis[14] = C35 * z * (xx - yy)
            basis[15] = C36 * x * (xx - THREE * yy)


@helper()
def sh_basis_gradient(x, y, z, count, w):
    """The gradient (three numbers) of ``sum_k w[k] basis_k`` with respect to the direction,
    ``count`` at least 4."""
    gx, gy, gz = -C1 * w[3], -C1 * w[1], C1 * w[2]
    if count > 4:
        gx += C20 * y * w[4] - TWO * C22 * x * w[6] + C23 * z * w[7] + TWO * C24 * x * w[8]
        gy += C20 * x * w[4] + C21 * z * w[5] - TWO * C22 * y * w[6] - TWO * C24 * y * w[8]
        gz += C21 * y * w[5] + FOUR * C22 * z * w[6] + C23 * x * w[7]
    if count > 9:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        w9, w10, w11, w12 = C30 * w[9], C31 * w[10], C32 * w[11], C33 * w[12]
        w13, w14, w15 = C34 * w[13], C35 * w[14], C36 * w[15]
        gx += SIX * xy * w9 + yz * w10 - TWO * xy * w11 - SIX * xz * w12
        gx += (FOUR * zz - THREE * xx - yy) * w13 + TWO * xz * w14 + THREE * (xx - yy) * w15
        gy += (
            THREE * (xx - yy) * w9 + xz * w10 + (FOUR * zz - xx - THREE * yy) * w11 - SIX * yz * w12
        )
        gy += -TWO * xy * w13 - TWO * yz * w14 - SIX * xy * w15
        gz += xy * w10 + EIGHT * yz * w11 + (SIX * zz - THREE * xx - THREE * yy) * w12
        gz += EIGHT * xz * w13 + (xx - yy) * w14
    return gx, gy, gz


@helper()
def sh_color(harmonics, i, basis, count):
    """The colour (three numbers, not clamped) of Gaussian ``i`` of coefficients [N, count, 3]."""
    red, green, blue = F(0.5), F(0.5), F(0.5)
    for k in range(count):
        red += basis[k] * harmonics[i, k, 0]
        green += basis[k] * harmonics[i, k, 1]
        blue += basis[k] * harmonics[i, k, 2]
    return red, green, blue


@helper()
def sh_color_backward(harmonics, i, basis, weights, direction, g_colour, g_sh):
    """Writes the gradient of Gaussian ``i``'s coefficients and returns that of the unit direction
    (x, y, z)."""
    count, (x, y, z), (g_red, g_green, g_blue) = harmonics.shape[1], direction, g_colour
    for k in range(count):
        g_sh[i, k, 0] = basis[k] * g_red
        g_sh[i, k, 1] = basis[k] * g_green
        g_sh[i, k, 2] = basis[k] * g_blue
    if count == 1:
        return ZERO, ZERO, ZERO
    for k in range(count):
        weights[k] = (
            harmonics[i, k, 0] * g_red + harmonics[i, k, 1] * g_green + harmonics[i, k, 2] * g_blue
        )
    return sh_basis_gradient(x, y, z, count, weights)
