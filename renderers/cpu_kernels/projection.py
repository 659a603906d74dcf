"""Gaussians to ellipses on the screen (EWA splatting) and their colours.

Source: Zwicker et al., "EWA Splatting" (2002), as Kerbl et al. (2023) and gsplat's classic mode use
    it.
"""

# pyright: basic

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, inlined, kernel
from likeness.ops.simd import WIDTH, broadcast, dot, larger, load, muladd, root, smaller, store
from likeness.renderers import constants
from likeness.renderers.cpu_kernels.layout import (
    ALPHA_MIN,
    BLUE,
    CAM_CENTER,
    CAM_CX,
    CAM_CY,
    CAM_FX,
    CAM_FY,
    CAM_T,
    CAM_X_HIGH,
    CAM_X_LOW,
    CAM_Y_HIGH,
    CAM_Y_LOW,
    CAMERA_COLUMNS,
    DEPTH,
    EPS2D,
    EXTENT_X,
    EXTENT_Y,
    FAR,
    GREEN,
    HALF,
    LN2,
    LOG2_ALPHA_MIN,
    LOG2_OPACITY,
    LOG2E,
    MAX_EXTENT,
    MEAN_X,
    MEAN_Y,
    NEAR,
    ONE,
    RAW_RED,
    RED,
    TWO,
    XX,
    XY,
    YY,
    ZERO,
    F,
)
from likeness.renderers.cpu_kernels.rounding import ceil
from likeness.renderers.cpu_kernels.spherical_harmonics import C0, sh_basis, sh_color

_TOO_LARGE = F(1e37)


def pack_cameras(K: np.ndarray, T_cam_world: np.ndarray, width: int, height: int) -> np.ndarray:
    """The rows [B, CAMERA_COLUMNS] float32 that the kernels read, from K [B, 3, 3] and T_cam_world
    [B, 4, 4], both in double precision."""
    rotation, translation = T_cam_world[:, :3, :3], T_cam_world[:, :3, 3]
    fx, fy, cx, cy = K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]
    margin_x, margin_y = (
        constants.FRUSTUM_MARGIN * width / 2 / fx,
        constants.FRUSTUM_MARGIN * height / 2 / fy,
    )
    limits = (
        -cx / fx - margin_x,
        (width - cx) / fx + margin_x,
        -cy / fy - margin_y,
        (height - cy) / fy + margin_y,
    )
    cameras = np.empty((len(K), CAMERA_COLUMNS), np.float32)
    cameras[:, :CAM_T], cameras[:, CAM_T:CAM_FX] = rotation.reshape(-1, 9), translation
    cameras[:, CAM_FX:CAM_CENTER] = np.stack([fx, fy, cx, cy, *limits], 1)
    cameras[:, CAM_CENTER:] = -np.einsum("bij,bi->bj", rotation, translation)
    return cameras


@inlined(AS_WRITTEN)
def to_camera(camera, x, y, z):
    """World points in the camera frame."""
    return (
        dot(broadcast(camera[0]), broadcast(camera[1]), broadcast(camera[2]), x, y, z)
        + broadcast(camera[CAM_T]),
        dot(broadcast(camera[3]), broadcast(camera[4]), broadcast(camera[5]), x, y, z)
        + broadcast(camera[CAM_T + 1]),
        dot(broadcast(camera[6]), broadcast(camera[7]), broadcast(camera[8]), x, y, z)
        + broadcast(camera[CAM_T + 2]),
    )


@inlined(AS_WRITTEN)
def jacobian(camera, x, y, inverse):
    """The two rows of d(pixel)/d(world point), linearised at points (x, y, 1 / inverse) that are
    kept near the frustum, and these.

    Row u is ``fx/z (W_0 - tx W_2)`` with the rows W of the camera's rotation and tx = x/z, clamped;
    likewise row v.
    """
    tx = smaller(larger(x * inverse, broadcast(camera[CAM_X_LOW])), broadcast(camera[CAM_X_HIGH]))
    ty = smaller(larger(y * inverse, broadcast(camera[CAM_Y_LOW])), broadcast(camera[CAM_Y_HIGH]))
    jx, jy = broadcast(camera[CAM_FX]) * inverse, broadcast(camera[CAM_FY]) * inverse
    w6, w7, w8 = broadcast(camera[6]), broadcast(camera[7]), broadcast(camera[8])
    u0 = muladd(-tx, w6, broadcast(camera[0]))
    u1 = muladd(-tx, w7, broadcast(camera[1]))
    u2 = muladd(-tx, w8, broadcast(camera[2]))
    v0 = muladd(-ty, w6, broadcast(camera[3]))
    v1 = muladd(-ty, w7, broadcast(camera[4]))
    v2 = muladd(-ty, w8, broadcast(camera[5]))
    return jx * u0, jx * u1, jx * u2, jy * v0, jy * v1, jy * v2, tx, ty


@inlined(AS_WRITTEN)
def unit_quats(gaussians):
    """The normalised quaternions of a block, and one over their lengths."""
    w, x = load(gaussians, 3 * WIDTH), load(gaussians, 4 * WIDTH)
    y, z = load(gaussians, 5 * WIDTH), load(gaussians, 6 * WIDTH)
    unit = broadcast(ONE) / root(muladd(w, w, dot(x, y, z, x, y, z)))
    return w * unit, x * unit, y * unit, z * unit, unit


@inlined(AS_WRITTEN)
def rotation(w, x, y, z):
    """The nine entries, row by row, of the rotation matrices of unit quaternions."""
    one, x2, y2, z2 = broadcast(ONE), x + x, y + y, z + z
    xx, yy, zz, xy, xz, yz, wx, wy, wz = (
        x * x2,
        y * y2,
        z * z2,
        x * y2,
        x * z2,
        y * z2,
        w * x2,
        w * y2,
        w * z2,
    )
    return (
        one - yy - zz,
        xy - wz,
        xz + wy,
        xy + wz,
        one - xx - zz,
        yz - wx,
        xz - wy,
        yz + wx,
        one - xx - yy,
    )


@inlined(AS_WRITTEN)
def _covariance(u0, u1, u2, v0, v1, v2):
    """The projected covariance xx, xy, yy (EPS2D added) and its determinant, from its two factor
    rows.

    The determinant is |u x v|² + EPS2D (|u|² + |v|²) + EPS2D² (Lagrange): needles lose nothing to
    cancellation.
    """
    eps = broadcast(EPS2D)
    uu, vv = dot(u0, u1, u2, u0, u1, u2), dot(v0, v1, v2, v0, v1, v2)
    c0, c1, c2 = muladd(u1, v2, -(u2 * v1)), muladd(u2, v0, -(u0 * v2)), muladd(u0, v1, -(u1 * v0))
    determinant = muladd(eps, uu + vv + eps, dot(c0, c1, c2, c0, c1, c2))
    return uu + eps, dot(u0, u1, u2, v0, v1, v2), vv + eps, determinant


# A block of WIDTH Gaussians holds their numbers kind by kind, WIDTH of each: mean [3], quaternion
# [4] and scales [3] come in, these go out.
_Z, _MEAN_X, _MEAN_Y, _XX, _XY, _YY, _DETERMINANT, _ROOT_XX, _ROOT_YY = (
    row * WIDTH for row in range(9)
)


@inlined(AS_WRITTEN)
def _project_block(camera, gaussians, out):
    x, y, z = to_camera(
        camera, load(gaussians, 0), load(gaussians, WIDTH), load(gaussians, 2 * WIDTH)
    )
    inverse = broadcast(ONE) / z
    a0, a1, a2, b0, b1, b2, _, _ = jacobian(camera, x, y, inverse)
    qw, qx, qy, qz, _ = unit_quats(gaussians)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw, qx, qy, qz)
    s0, s1, s2 = load(gaussians, 7 * WIDTH), load(gaussians, 8 * WIDTH), load(gaussians, 9 * WIDTH)
    xx, xy, yy, determinant = _covariance(
        dot(a0, a1, a2, r00, r10, r20) * s0,
        dot(a0, a1, a2, r01, r11, r21) * s1,
        dot(a0, a1, a2, r02, r12, r22) * s2,
        dot(b0, b1, b2, r00, r10, r20) * s0,
        dot(b0, b1, b2, r01, r11, r21) * s1,
        dot(b0, b1, b2, r02, r12, r22) * s2,
    )
    scale = broadcast(LOG2E) / determinant
    minus_half = broadcast(-HALF)
    store(out, _Z, z)
    store(out, _MEAN_X, muladd(broadcast(camera[CAM_FX]) * x, inverse, broadcast(camera[CAM_CX])))
    store(out, _MEAN_Y, muladd(broadcast(camera[CAM_FY]) * y, inverse, broadcast(camera[CAM_CY])))
    store(out, _XX, minus_half * scale * yy)
    store(out, _XY, scale * xy)
    store(out, _YY, minus_half * scale * xx)
    store(out, _DETERMINANT, determinant)
    store(out, _ROOT_XX, root(xx))
    store(out, _ROOT_YY, root(yy))


@inlined()
def take(table, columns, first, count, block, row):
    """Writes the columns of ``count`` rows of a table to a block, from its row ``row`` on."""
    for k in range(count):
        for column in range(columns):
            block[(row + column) * WIDTH + k] = table[first + k, column]


@inlined(ANY_NUMBER)
def _write_splat(k, block, opacity, width, height, splats, i):
    """Writes row ``i`` but for the colours from lane ``k``; returns whether it is drawn."""
    splats[i, EXTENT_X] = ZERO
    z, determinant, mean_x, mean_y = (
        block[_Z + k],
        block[_DETERMINANT + k],
        block[_MEAN_X + k],
        block[_MEAN_Y + k],
    )
    if not (z >= NEAR and z <= FAR and opacity >= ALPHA_MIN):
        return False
    log2_opacity = F(math.log(opacity)) * LOG2E
    extent = min(MAX_EXTENT, math.sqrt(TWO * LN2 * max(log2_opacity - LOG2_ALPHA_MIN, ZERO)))
    extent_x, extent_y = extent * block[_ROOT_XX + k], extent * block[_ROOT_YY + k]
    # gsplat's test: the box rounded up to whole pixels meets the image. False also for whatever is
    # not a number.
    radius_x, radius_y = F(ceil(extent_x)), F(ceil(extent_y))
    if not (
        determinant < _TOO_LARGE
        and radius_x > ZERO
        and radius_y > ZERO
        and mean_x + radius_x > ZERO
        and mean_x - radius_x < width
        and mean_y + radius_y > ZERO
        and mean_y - radius_y < height
    ):
        return False
    splats[i, MEAN_X], splats[i, MEAN_Y] = mean_x, mean_y
    splats[i, XX], splats[i, XY], splats[i, YY] = block[_XX + k], block[_XY + k], block[_YY + k]
    splats[i, LOG2_OPACITY], splats[i, DEPTH] = log2_opacity, z
    splats[i, EXTENT_X], splats[i, EXTENT_Y] = extent_x, extent_y
    return True


@helper()
def direction(camera, x, y, z):
    """The unit vector from the camera's centre to a world point, and one over their distance."""
    dx, dy, dz = x - camera[CAM_CENTER], y - camera[CAM_CENTER + 1], z - camera[CAM_CENTER + 2]
    inverse = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
    return dx * inverse, dy * inverse, dz * inverse, inverse


@kernel(AS_WRITTEN)
def project(first, last, cloud, camera, width, height, splats, basis):
    """Writes the rows ``first`` to ``last`` of ``splats`` [N, SPLAT_COLUMNS] for a ``Cloud``;
    EXTENT_X is 0 where nothing is drawn."""
    means, quats, scales, opacities, sh = cloud
    coefficients = sh.shape[1]
    gaussians, out = np.ones(10 * WIDTH, np.float32), np.empty(9 * WIDTH, np.float32)
    for start in range(first, last, WIDTH):
        count = min(WIDTH, last - start)
        take(means, 3, start, count, gaussians, 0)
        take(quats, 4, start, count, gaussians, 3)
        take(scales, 3, start, count, gaussians, 7)
        _project_block(camera, gaussians, out)
        for k in range(count):
            i = start + k
            if not _write_splat(k, out, opacities[i], width, height, splats, i):
                continue
            if coefficients == 1:
                red, green, blue = (
                    HALF + C0 * sh[i, 0, 0],
                    HALF + C0 * sh[i, 0, 1],
                    HALF + C0 * sh[i, 0, 2],
                )
            else:
                dx, dy, dz, _ = direction(camera, means[i, 0], means[i, 1], means[i, 2])
                sh_basis(dx, dy, dz, coefficients, basis)
                red, green, blue = sh_color(sh, i, basis, coefficients)
            splats[i, RAW_RED], splats[i, RAW_RED + 1], splats[i, RAW_RED + 2] = red, green, blue
            splats[i, RED], splats[i, GREEN], splats[i, BLUE] = (
                max(red, ZERO),
                max(green, ZERO),
                max(blue, ZERO),
            )
