"""From the gradients gathered on the screen to those of the Gaussians and of the camera's pose."""

# pyright: basic

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, inlined, kernel
from likeness.ops.simd import WIDTH, add_lane_sums, broadcast, dot, load, muladd, store, where
from likeness.renderers.cpu_kernels.layout import (
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
)
from likeness.renderers.cpu_kernels.projection import (
    direction,
    jacobian,
    rotation,
    to_camera,
    unit_quats,
)
from likeness.renderers.cpu_kernels.spherical_harmonics import C0, C1, sh_basis, sh_color_backward

# Rows of a block of WIDTH drawn Gaussians: mean [3], quaternion [4] and scales [3] as in
# ``projection``; what follows comes in too, and is overwritten by the results.
_CONIC, _GRADIENT, _TURNED = 10 * WIDTH, 13 * WIDTH, 19 * WIDTH
_ROWS = 22
_G_Z, _G_1X, _G_1Y, _G_2XX, _G_2XY, _G_2YY = (_GRADIENT + row * WIDTH for row in range(6))


@inlined(AS_WRITTEN)
def _axis(sigma, ra, rb, gxx, gxy, gyy):
    """One axis of a Gaussian: gradients of the factors u = a.R s and v = b.R s times s, and that of
    the scale s."""
    u, v, two = ra * sigma, rb * sigma, broadcast(TWO)
    du, dv = two * muladd(gxx, u, gxy * v), two * muladd(gxy, u, gyy * v)
    return du * sigma, dv * sigma, muladd(du, ra, dv * rb)


@inlined(AS_WRITTEN)
def _covariance_gradient(block):
    """dL/d(covariance) as a symmetric matrix xx, xy, yy: ``-C V C`` with C the conic and V its
    gradient."""
    two_ln2, minus_half = broadcast(-TWO * LN2), broadcast(-HALF)
    a, c = two_ln2 * load(block, _CONIC), two_ln2 * load(block, _CONIC + 2 * WIDTH)
    b = broadcast(-LN2) * load(block, _CONIC + WIDTH)
    va, vb, vc = (
        minus_half * load(block, _G_2XX),
        minus_half * load(block, _G_2XY),
        minus_half * load(block, _G_2YY),
    )
    m00, m01, m10, m11 = (
        muladd(a, va, b * vb),
        muladd(a, vb, b * vc),
        muladd(b, va, c * vb),
        muladd(b, vb, c * vc),
    )
    return -muladd(m00, a, m01 * b), -muladd(m00, b, m01 * c), -muladd(m10, b, m11 * c)


@inlined(AS_WRITTEN)
def _quaternion_gradient(quaternion, unit, gradient, block):
    """From the gradient of the rotation matrix (row by row) to that of the quaternion before its
    normalisation."""
    w, x, y, z = quaternion
    d00, d01, d02, d10, d11, d12, d20, d21, d22 = gradient
    two = broadcast(TWO)
    s01, s02, s12, a10, a02, a21 = d01 + d10, d02 + d20, d12 + d21, d10 - d01, d02 - d20, d21 - d12
    gw = two * dot(x, y, z, a21, a02, a10)
    gx = two * muladd(w, a21, dot(-(x + x), y, z, d11 + d22, s01, s02))
    gy = two * muladd(w, a02, dot(x, -(y + y), z, s01, d00 + d22, s12))
    gz = two * muladd(w, a10, dot(x, y, -(z + z), s02, s12, d00 + d11))
    along = muladd(gw, w, dot(gx, gy, gz, x, y, z))
    store(block, 3 * WIDTH, muladd(-along, w, gw) * unit)
    store(block, 4 * WIDTH, muladd(-along, x, gx) * unit)
    store(block, 5 * WIDTH, muladd(-along, y, gy) * unit)
    store(block, 6 * WIDTH, muladd(-along, z, gz) * unit)


@inlined(AS_WRITTEN)
def _block_backward(camera, block, sums):
    """Overwrites mean, quaternion, scales and the first two rows from _CONIC on with their
    gradients and that of the screen mean; adds to sums [16]."""
    px, py, pz = load(block, 0), load(block, WIDTH), load(block, 2 * WIDTH)
    x, y, z = to_camera(camera, px, py, pz)
    inverse, zero = broadcast(ONE) / z, broadcast(ZERO)
    a0, a1, a2, b0, b1, b2, tx, ty = jacobian(camera, x, y, inverse)
    qw, qx, qy, qz, unit = unit_quats(block)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw, qx, qy, qz)

    # Through the covariance to the axes: one scale, and one column of the rotation, each.
    gxx, gxy, gyy = _covariance_gradient(block)
    ra0, rb0 = dot(a0, a1, a2, r00, r10, r20), dot(b0, b1, b2, r00, r10, r20)
    ra1, rb1 = dot(a0, a1, a2, r01, r11, r21), dot(b0, b1, b2, r01, r11, r21)
    ra2, rb2 = dot(a0, a1, a2, r02, r12, r22), dot(b0, b1, b2, r02, r12, r22)
    du0, dv0, gs0 = _axis(load(block, 7 * WIDTH), ra0, rb0, gxx, gxy, gyy)
    du1, dv1, gs1 = _axis(load(block, 8 * WIDTH), ra1, rb1, gxx, gxy, gyy)
    du2, dv2, gs2 = _axis(load(block, 9 * WIDTH), ra2, rb2, gxx, gxy, gyy)
    store(block, 7 * WIDTH, gs0)
    store(block, 8 * WIDTH, gs1)
    store(block, 9 * WIDTH, gs2)
    by_rotation = (
        muladd(a0, du0, b0 * dv0),
        muladd(a0, du1, b0 * dv1),
        muladd(a0, du2, b0 * dv2),
        muladd(a1, du0, b1 * dv0),
        muladd(a1, du1, b1 * dv1),
        muladd(a1, du2, b1 * dv2),
        muladd(a2, du0, b2 * dv0),
        muladd(a2, du1, b2 * dv1),
        muladd(a2, du2, b2 * dv2),
    )
    _quaternion_gradient((qw, qx, qy, qz), unit, by_rotation, block)

    # Through the Jacobian's rows a = fx/z (W_0 - tx W_2) and b to the point in the camera frame.
    e0, f0 = dot(r00, r01, r02, du0, du1, du2), dot(r00, r01, r02, dv0, dv1, dv2)
    e1, f1 = dot(r10, r11, r12, du0, du1, du2), dot(r10, r11, r12, dv0, dv1, dv2)
    e2, f2 = dot(r20, r21, r22, du0, du1, du2), dot(r20, r21, r22, dv0, dv1, dv2)
    w6, w7, w8 = broadcast(camera[6]), broadcast(camera[7]), broadcast(camera[8])
    jx, jy = broadcast(camera[CAM_FX]) * inverse, broadcast(camera[CAM_FY]) * inverse
    g_tx, g_ty = -jx * dot(e0, e1, e2, w6, w7, w8), -jy * dot(f0, f1, f2, w6, w7, w8)
    two, ln2 = broadcast(TWO), broadcast(LN2)
    xx, xy, yy = load(block, _CONIC), load(block, _CONIC + WIDTH), load(block, _CONIC + 2 * WIDTH)
    g_mx = ln2 * muladd(two * xx, load(block, _G_1X), xy * load(block, _G_1Y))
    g_my = ln2 * muladd(xy, load(block, _G_1X), two * yy * load(block, _G_1Y))
    store(block, _CONIC, g_mx)
    store(block, _CONIC + WIDTH, g_my)
    gx, gy = jx * g_mx, jy * g_my
    back = muladd(gx, x, muladd(gy, y, dot(a0, a1, a2, e0, e1, e2) + dot(b0, b1, b2, f0, f1, f2)))
    gz = muladd(-back, inverse, load(block, _G_Z))
    ux, uy = x * inverse, y * inverse
    inside = (ux >= broadcast(camera[CAM_X_LOW])) & (ux <= broadcast(camera[CAM_X_HIGH]))
    g_ux = where(inside, g_tx, zero) * inverse
    inside = (uy >= broadcast(camera[CAM_Y_LOW])) & (uy <= broadcast(camera[CAM_Y_HIGH]))
    g_uy = where(inside, g_ty, zero) * inverse
    gx, gy, gz = gx + g_ux, gy + g_uy, muladd(-g_ux, ux, muladd(-g_uy, uy, gz))

    hx, hy, hz = (
        load(block, _TURNED),
        load(block, _TURNED + WIDTH),
        load(block, _TURNED + 2 * WIDTH),
    )
    store(block, 0, hx + dot(broadcast(camera[0]), broadcast(camera[3]), w6, gx, gy, gz))
    store(block, WIDTH, hy + dot(broadcast(camera[1]), broadcast(camera[4]), w7, gx, gy, gz))
    store(block, 2 * WIDTH, hz + dot(broadcast(camera[2]), broadcast(camera[5]), w8, gx, gy, gz))
    kx, ky = jx * tx, jy * ty
    add_lane_sums(
        sums,
        0,
        muladd(gx, px, jx * e0),
        muladd(gx, py, jx * e1),
        muladd(gx, pz, jx * e2),
        muladd(gy, px, jy * f0),
        muladd(gy, py, jy * f1),
        muladd(gy, pz, jy * f2),
        muladd(gz, px, -muladd(kx, e0, ky * f0)),
        muladd(gz, py, -muladd(kx, e1, ky * f1)),
        muladd(gz, pz, -muladd(kx, e2, ky * f2)),
        gx,
        gy,
        gz,
        -hx,
        -hy,
        -hz,
        zero,
    )


@helper()
def _colour_backward(i, means, sh, camera, basis, weights, g_colour, g_sh):
    """Writes the gradient of the harmonics; returns that of the mean, through the direction that it
    is seen from."""
    count = sh.shape[1]
    dx, dy, dz, near = direction(camera, means[i, 0], means[i, 1], means[i, 2])
    sh_basis(dx, dy, dz, count, basis)
    hx, hy, hz = sh_color_backward(sh, i, basis, weights, (dx, dy, dz), g_colour, g_sh)
    along = hx * dx + hy * dy + hz * dz
    return (hx - along * dx) * near, (hy - along * dy) * near, (hz - along * dz) * near


@inlined(ANY_NUMBER)
def _linear_colour_backward(i, means, sh, camera, g_colour, g_sh):
    """``_colour_backward`` of degree 1, the default avatar's, without a loop or a call."""
    g_red, g_green, g_blue = g_colour
    x, y = means[i, 0] - camera[CAM_CENTER], means[i, 1] - camera[CAM_CENTER + 1]
    z = means[i, 2] - camera[CAM_CENTER + 2]
    near = ONE / math.sqrt(x * x + y * y + z * z)
    x, y, z = C1 * near * x, C1 * near * y, C1 * near * z
    g_sh[i, 0, 0], g_sh[i, 0, 1], g_sh[i, 0, 2] = C0 * g_red, C0 * g_green, C0 * g_blue
    g_sh[i, 1, 0], g_sh[i, 1, 1], g_sh[i, 1, 2] = -y * g_red, -y * g_green, -y * g_blue
    g_sh[i, 2, 0], g_sh[i, 2, 1], g_sh[i, 2, 2] = z * g_red, z * g_green, z * g_blue
    g_sh[i, 3, 0], g_sh[i, 3, 1], g_sh[i, 3, 2] = -x * g_red, -x * g_green, -x * g_blue
    hy = -(sh[i, 1, 0] * g_red + sh[i, 1, 1] * g_green + sh[i, 1, 2] * g_blue)
    hz = sh[i, 2, 0] * g_red + sh[i, 2, 1] * g_green + sh[i, 2, 2] * g_blue
    hx = -(sh[i, 3, 0] * g_red + sh[i, 3, 1] * g_green + sh[i, 3, 2] * g_blue)
    along = (hx * x + hy * y + hz * z) / C1
    near = C1 * near
    return near * (hx - along * x / C1), near * (hy - along * y / C1), near * (hz - along * z / C1)


@inlined()
def _give(block, row, columns, picked, count, table):
    """Writes rows of a block to the columns of the picked rows of a table."""
    for k in range(count):
        for column in range(columns):
            table[picked[k], column] = block[(row + column) * WIDTH + k]


@helper()
def _clear(i, by):
    by.means[i], by.quats[i], by.scales[i], by.sh[i], by.opacities[i] = ZERO, ZERO, ZERO, ZERO, ZERO
    by.means2d[i], by.absolute[i] = ZERO, ZERO


@kernel(AS_WRITTEN)
def project_backward(first, last, cloud, camera, splats, gradients, basis, by, g_camera):
    """Writes the gradients of a ``Cloud``'s Gaussians ``first`` to ``last`` to ``by``, a
    ``CloudGradients``; zero where they were not drawn.

    gradients: [threads, N, GRADIENT_COLUMNS]; the first is overwritten with the sum. basis: [32],
    to work with. g_camera: [15] float64, added to: rotation [9], translation [3], centre [3] (the
    centre as the origin of the viewing directions only).
    """
    means, quats, scales, opacities, sh = cloud
    basis, weights, g_sh = basis[:16], basis[16:], by.sh
    block, picked, sums = (
        np.empty(_ROWS * WIDTH, np.float32),
        np.empty(WIDTH, np.int64),
        np.empty(16, np.float32),
    )
    used, i = 0, first
    while i < last:
        while i < last and used < WIDTH:
            if not splats[i, EXTENT_X] > ZERO:
                _clear(i, by)
                i += 1
                continue
            for thread in range(1, gradients.shape[0]):
                for column in range(GRADIENT_COLUMNS):
                    gradients[0, i, column] += gradients[thread, i, column]
            by.opacities[i] = gradients[0, i, G_1] / opacities[i]
            by.absolute[i, 0] = gradients[0, i, G_ABS_X]
            by.absolute[i, 1] = gradients[0, i, G_ABS_Y]
            for column in range(3):
                block[column * WIDTH + used] = means[i, column]
                block[(7 + column) * WIDTH + used] = scales[i, column]
            for column in range(4):
                block[(3 + column) * WIDTH + used] = quats[i, column]
            block[_CONIC + used], block[_CONIC + WIDTH + used] = splats[i, XX], splats[i, XY]
            block[_CONIC + 2 * WIDTH + used] = splats[i, YY]
            block[_G_Z + used] = gradients[0, i, G_DEPTH]
            block[_G_1X + used], block[_G_1Y + used] = gradients[0, i, G_X], gradients[0, i, G_Y]
            block[_G_2XX + used], block[_G_2XY + used] = (
                gradients[0, i, G_XX],
                gradients[0, i, G_XY],
            )
            block[_G_2YY + used] = gradients[0, i, G_YY]
            # The colour: clamped at 0, seen along the direction from the camera's centre.
            g_red = gradients[0, i, G_RED] if splats[i, RAW_RED] >= ZERO else ZERO
            g_green = gradients[0, i, G_RED + 1] if splats[i, RAW_RED + 1] >= ZERO else ZERO
            g_blue = gradients[0, i, G_RED + 2] if splats[i, RAW_RED + 2] >= ZERO else ZERO
            if sh.shape[1] == 1:
                hx, hy, hz = ZERO, ZERO, ZERO
                g_sh[i, 0, 0], g_sh[i, 0, 1], g_sh[i, 0, 2] = C0 * g_red, C0 * g_green, C0 * g_blue
            elif sh.shape[1] == 4:
                g_colour = g_red, g_green, g_blue
                hx, hy, hz = _linear_colour_backward(i, means, sh, camera, g_colour, g_sh)
            else:
                g_colour = g_red, g_green, g_blue
                hx, hy, hz = _colour_backward(i, means, sh, camera, basis, weights, g_colour, g_sh)
            (
                block[_TURNED + used],
                block[_TURNED + WIDTH + used],
                block[_TURNED + 2 * WIDTH + used],
            ) = hx, hy, hz
            picked[used] = i
            used += 1
            i += 1
        if used == 0:
            break
        for k in range(used, WIDTH):  # a Gaussian again, without a gradient
            for row in range(_ROWS):
                block[row * WIDTH + k] = block[row * WIDTH] if row * WIDTH < _GRADIENT else ZERO
        sums[:] = ZERO
        _block_backward(camera, block, sums)
        for column in range(15):
            g_camera[column] += sums[column]
        _give(block, 0, 3, picked, used, by.means)
        _give(block, 3, 4, picked, used, by.quats)
        _give(block, 7, 3, picked, used, by.scales)
        _give(block, 10, 2, picked, used, by.means2d)
        used = 0
