"""From the gradients gathered on the screen to those of the Gaussians and of the camera's pose."""

from __future__ import annotations

import math

from renderers.cpu_kernels.compiling import helper, kernel
from renderers.cpu_kernels.layout import (
    CAM_CENTER,
    CAM_FX,
    CAM_FY,
    CAM_X_HIGH,
    CAM_X_LOW,
    CAM_Y_HIGH,
    CAM_Y_LOW,
    EXTENT_X,
    G_1,
    G_ABS_X,
    G_ABS_Y,
    G_DEPTH,
    G_RED,
    G_X,
    G_XX,
    G_XY,
    G_Y,
    G_YY,
    GRADIENT_COLUMNS,
    HALF,
    LN2,
    ONE,
    RAW_RED,
    TWO,
    XX,
    XY,
    YY,
    ZERO,
)  # fmt: skip
from renderers.cpu_kernels.projection import jacobian, rotation, to_camera
from renderers.cpu_kernels.spherical_harmonics import sh_basis, sh_color_backward


@helper()
def _covariance_gradient(splat, gradient):
    """dL/d(covariance) as a symmetric matrix xx, xy, yy: ``-C V C`` with C the conic and V its gradient."""
    a, b, c = -TWO * LN2 * splat[XX], -LN2 * splat[XY], -TWO * LN2 * splat[YY]
    va, vb, vc = -HALF * gradient[G_XX], -HALF * gradient[G_XY], -HALF * gradient[G_YY]
    m00, m01, m10, m11 = a * va + b * vb, a * vb + b * vc, b * va + c * vb, b * vb + c * vc
    return -(m00 * a + m01 * b), -(m00 * b + m01 * c), -(m10 * b + m11 * c)


@helper()
def _axis(sigma, ra, rb, gxx, gxy, gyy):
    """One axis of a Gaussian: gradients of the factors u = a.R s and v = b.R s times s, and that of the scale s."""
    u, v = ra * sigma, rb * sigma
    du, dv = TWO * (gxx * u + gxy * v), TWO * (gxy * u + gyy * v)
    return du * sigma, dv * sigma, du * ra + dv * rb


@helper()
def _quaternion_gradient(w, x, y, z, unit, d00, d01, d02, d10, d11, d12, d20, d21, d22, out):
    """From the gradient of the rotation matrix to that of the quaternion before its normalisation."""
    gw = TWO * (x * (d21 - d12) + y * (d02 - d20) + z * (d10 - d01))
    gx = TWO * (w * (d21 - d12) - TWO * x * (d11 + d22) + y * (d01 + d10) + z * (d02 + d20))
    gy = TWO * (w * (d02 - d20) + x * (d01 + d10) - TWO * y * (d00 + d22) + z * (d12 + d21))
    gz = TWO * (w * (d10 - d01) + x * (d02 + d20) + y * (d12 + d21) - TWO * z * (d00 + d11))
    along = gw * w + gx * x + gy * y + gz * z
    out[0], out[1] = (gw - along * w) * unit, (gx - along * x) * unit
    out[2], out[3] = (gy - along * y) * unit, (gz - along * z) * unit


@kernel()
def project_backward(
    first, last, means, quats, scales, opacities, sh, camera, splats, gradients, basis, weights,
    g_means, g_quats, g_scales, g_opacities, g_sh, g_means2d, g_absolute, g_camera,
):  # fmt: skip
    """Writes the gradients of the Gaussians ``first`` to ``last``; zero where they were not drawn.

    gradients: [threads, N, GRADIENT_COLUMNS]; the first is overwritten with the sum.
    g_means2d, g_absolute: [N, 2]. g_camera: [15] float64, added to: rotation [9], translation [3], centre [3] (the
    centre as the origin of the viewing directions only).
    """
    count = sh.shape[1]
    for i in range(first, last):
        splat = splats[i]
        if not splat[EXTENT_X] > ZERO:
            g_means[i], g_quats[i], g_scales[i], g_sh[i], g_opacities[i] = ZERO, ZERO, ZERO, ZERO, ZERO
            g_means2d[i], g_absolute[i] = ZERO, ZERO
            continue
        gradient = gradients[0, i]
        for thread in range(1, gradients.shape[0]):
            for column in range(GRADIENT_COLUMNS):
                gradient[column] += gradients[thread, i, column]
        g_opacities[i] = gradient[G_1] / opacities[i]
        g_mx = LN2 * (TWO * splat[XX] * gradient[G_X] + splat[XY] * gradient[G_Y])
        g_my = LN2 * (splat[XY] * gradient[G_X] + TWO * splat[YY] * gradient[G_Y])
        g_means2d[i, 0], g_means2d[i, 1] = g_mx, g_my
        g_absolute[i, 0], g_absolute[i, 1] = gradient[G_ABS_X], gradient[G_ABS_Y]

        px, py, pz = means[i, 0], means[i, 1], means[i, 2]
        x, y, z = to_camera(camera, px, py, pz)
        qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        unit = ONE / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        qw, qx, qy, qz = qw * unit, qx * unit, qy * unit, qz * unit
        r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw, qx, qy, qz)
        a0, a1, a2, b0, b1, b2, tx, ty = jacobian(camera, x, y, z)

        # Through the covariance to the axes: one scale, and one column of the rotation, each.
        gxx, gxy, gyy = _covariance_gradient(splat, gradient)
        ra0, rb0 = a0 * r00 + a1 * r10 + a2 * r20, b0 * r00 + b1 * r10 + b2 * r20
        ra1, rb1 = a0 * r01 + a1 * r11 + a2 * r21, b0 * r01 + b1 * r11 + b2 * r21
        ra2, rb2 = a0 * r02 + a1 * r12 + a2 * r22, b0 * r02 + b1 * r12 + b2 * r22
        du0, dv0, g_scales[i, 0] = _axis(scales[i, 0], ra0, rb0, gxx, gxy, gyy)
        du1, dv1, g_scales[i, 1] = _axis(scales[i, 1], ra1, rb1, gxx, gxy, gyy)
        du2, dv2, g_scales[i, 2] = _axis(scales[i, 2], ra2, rb2, gxx, gxy, gyy)
        _quaternion_gradient(
            qw, qx, qy, qz, unit,
            a0 * du0 + b0 * dv0, a0 * du1 + b0 * dv1, a0 * du2 + b0 * dv2,
            a1 * du0 + b1 * dv0, a1 * du1 + b1 * dv1, a1 * du2 + b1 * dv2,
            a2 * du0 + b2 * dv0, a2 * du1 + b2 * dv1, a2 * du2 + b2 * dv2, g_quats[i],
        )  # fmt: skip

        # Through the Jacobian's rows a = fx/z (W_0 - tx W_2) and b to the point in the camera frame.
        e0, f0 = r00 * du0 + r01 * du1 + r02 * du2, r00 * dv0 + r01 * dv1 + r02 * dv2
        e1, f1 = r10 * du0 + r11 * du1 + r12 * du2, r10 * dv0 + r11 * dv1 + r12 * dv2
        e2, f2 = r20 * du0 + r21 * du1 + r22 * du2, r20 * dv0 + r21 * dv1 + r22 * dv2
        inverse = ONE / z
        jx, jy = camera[CAM_FX] * inverse, camera[CAM_FY] * inverse
        g_tx = -jx * (e0 * camera[6] + e1 * camera[7] + e2 * camera[8])
        g_ty = -jy * (f0 * camera[6] + f1 * camera[7] + f2 * camera[8])
        gx, gy = jx * g_mx, jy * g_my
        gz = gradient[G_DEPTH] - (gx * x + gy * y + a0 * e0 + a1 * e1 + a2 * e2 + b0 * f0 + b1 * f1 + b2 * f2) * inverse
        ux, uy = x * inverse, y * inverse
        if ux >= camera[CAM_X_LOW] and ux <= camera[CAM_X_HIGH]:
            gx += g_tx * inverse
            gz -= g_tx * ux * inverse
        if uy >= camera[CAM_Y_LOW] and uy <= camera[CAM_Y_HIGH]:
            gy += g_ty * inverse
            gz -= g_ty * uy * inverse

        # The colour: clamped at 0, seen along the direction from the camera's centre.
        g_red = gradient[G_RED] if splat[RAW_RED] >= ZERO else ZERO
        g_green = gradient[G_RED + 1] if splat[RAW_RED + 1] >= ZERO else ZERO
        g_blue = gradient[G_RED + 2] if splat[RAW_RED + 2] >= ZERO else ZERO
        dx, dy, dz = px - camera[CAM_CENTER], py - camera[CAM_CENTER + 1], pz - camera[CAM_CENTER + 2]
        near = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
        dx, dy, dz = dx * near, dy * near, dz * near
        sh_basis(dx, dy, dz, count, basis)
        hx, hy, hz = sh_color_backward(sh[i], basis, weights, count, dx, dy, dz, g_red, g_green, g_blue, g_sh[i])
        along = hx * dx + hy * dy + hz * dz
        hx, hy, hz = (hx - along * dx) * near, (hy - along * dy) * near, (hz - along * dz) * near

        g_means[i, 0] = camera[0] * gx + camera[3] * gy + camera[6] * gz + hx
        g_means[i, 1] = camera[1] * gx + camera[4] * gy + camera[7] * gz + hy
        g_means[i, 2] = camera[2] * gx + camera[5] * gy + camera[8] * gz + hz

        g_camera[0] += gx * px + jx * e0
        g_camera[1] += gx * py + jx * e1
        g_camera[2] += gx * pz + jx * e2
        g_camera[3] += gy * px + jy * f0
        g_camera[4] += gy * py + jy * f1
        g_camera[5] += gy * pz + jy * f2
        g_camera[6] += gz * px - jx * tx * e0 - jy * ty * f0
        g_camera[7] += gz * py - jx * tx * e1 - jy * ty * f1
        g_camera[8] += gz * pz - jx * tx * e2 - jy * ty * f2
        g_camera[9] += gx
        g_camera[10] += gy
        g_camera[11] += gz
        g_camera[12] -= hx
        g_camera[13] -= hy
        g_camera[14] -= hz
