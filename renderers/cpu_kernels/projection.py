"""Gaussians to ellipses on the screen (EWA splatting) and their colours.

Source: Zwicker et al., "EWA Splatting" (2002), as Kerbl et al. (2023) and gsplat's classic mode use it.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from renderers import constants
from renderers.cpu_kernels.compiling import helper, kernel
from renderers.cpu_kernels.layout import (
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
)  # fmt: skip
from renderers.cpu_kernels.spherical_harmonics import sh_basis, sh_color

_TOO_LARGE = F(1e37)


def pack_camera(K: Tensor, T_cam_world: Tensor, width: int, height: int) -> np.ndarray:
    """The row [CAMERA_COLUMNS] float32 that the kernels read, from K [3, 3] and T_cam_world [4, 4]."""
    K, T = K.detach().double().numpy(), T_cam_world.detach().double().numpy()
    camera = np.zeros(CAMERA_COLUMNS)
    camera[:CAM_T], camera[CAM_T:CAM_FX] = T[:3, :3].ravel(), T[:3, 3]
    fx, fy, cx, cy = camera[CAM_FX : CAM_X_LOW] = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = constants.FRUSTUM_MARGIN * width / 2 / fx, constants.FRUSTUM_MARGIN * height / 2 / fy
    camera[CAM_X_LOW:CAM_CENTER] = (
        -cx / fx - margin_x, (width - cx) / fx + margin_x, -cy / fy - margin_y, (height - cy) / fy + margin_y
    )  # fmt: skip
    camera[CAM_CENTER:] = -T[:3, :3].T @ T[:3, 3]
    return camera.astype(np.float32)


@helper()
def to_camera(camera, x, y, z):
    """A world point in the camera frame."""
    return (
        camera[0] * x + camera[1] * y + camera[2] * z + camera[CAM_T],
        camera[3] * x + camera[4] * y + camera[5] * z + camera[CAM_T + 1],
        camera[6] * x + camera[7] * y + camera[8] * z + camera[CAM_T + 2],
    )


@helper()
def jacobian(camera, x, y, z):
    """The two rows of d(pixel)/d(world point), linearised at a point that is kept near the frustum, and that point.

    Row u is ``fx/z (W_0 - tx W_2)`` with the rows W of the camera's rotation and tx = x/z, clamped; likewise row v.
    """
    inverse = ONE / z
    tx = min(max(x * inverse, camera[CAM_X_LOW]), camera[CAM_X_HIGH])
    ty = min(max(y * inverse, camera[CAM_Y_LOW]), camera[CAM_Y_HIGH])
    jx, jy = camera[CAM_FX] * inverse, camera[CAM_FY] * inverse
    u0, u1, u2 = camera[0] - tx * camera[6], camera[1] - tx * camera[7], camera[2] - tx * camera[8]
    v0, v1, v2 = camera[3] - ty * camera[6], camera[4] - ty * camera[7], camera[5] - ty * camera[8]
    return jx * u0, jx * u1, jx * u2, jy * v0, jy * v1, jy * v2, tx, ty


@helper()
def rotation(w, x, y, z):
    """The nine entries, row by row, of the rotation matrix of a unit quaternion."""
    return (
        ONE - TWO * (y * y + z * z), TWO * (x * y - w * z), TWO * (x * z + w * y),
        TWO * (x * y + w * z), ONE - TWO * (x * x + z * z), TWO * (y * z - w * x),
        TWO * (x * z - w * y), TWO * (y * z + w * x), ONE - TWO * (x * x + y * y),
    )  # fmt: skip


@helper()
def covariance(u0, u1, u2, v0, v1, v2):
    """The projected covariance xx, xy, yy (EPS2D added) and its determinant, from its two factor rows.

    The determinant is |u x v|² + EPS2D (|u|² + |v|²) + EPS2D² (Lagrange): needles lose nothing to cancellation.
    """
    uu, vv = u0 * u0 + u1 * u1 + u2 * u2, v0 * v0 + v1 * v1 + v2 * v2
    c0, c1, c2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    determinant = c0 * c0 + c1 * c1 + c2 * c2 + EPS2D * (uu + vv) + EPS2D * EPS2D
    return uu + EPS2D, u0 * v0 + u1 * v1 + u2 * v2, vv + EPS2D, determinant


@kernel()
def project(first, last, means, quats, scales, opacities, sh, camera, width, height, splats, basis):
    """Writes the rows ``first`` to ``last`` of ``splats`` [N, SPLAT_COLUMNS]; EXTENT_X is 0 where nothing is drawn."""
    count = sh.shape[1]
    for i in range(first, last):
        splat = splats[i]
        splat[EXTENT_X] = ZERO
        opacity = opacities[i]
        px, py, pz = means[i, 0], means[i, 1], means[i, 2]
        x, y, z = to_camera(camera, px, py, pz)
        if not (z >= NEAR and z <= FAR and opacity >= ALPHA_MIN):
            continue

        qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        unit = ONE / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw * unit, qx * unit, qy * unit, qz * unit)
        a0, a1, a2, b0, b1, b2, _, _ = jacobian(camera, x, y, z)
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        xx, xy, yy, determinant = covariance(
            (a0 * r00 + a1 * r10 + a2 * r20) * s0, (a0 * r01 + a1 * r11 + a2 * r21) * s1,
            (a0 * r02 + a1 * r12 + a2 * r22) * s2, (b0 * r00 + b1 * r10 + b2 * r20) * s0,
            (b0 * r01 + b1 * r11 + b2 * r21) * s1, (b0 * r02 + b1 * r12 + b2 * r22) * s2,
        )  # fmt: skip
        log2_opacity = F(math.log(opacity)) * LOG2E
        extent = min(MAX_EXTENT, math.sqrt(TWO * LN2 * max(log2_opacity - LOG2_ALPHA_MIN, ZERO)))
        extent_x, extent_y = extent * math.sqrt(xx), extent * math.sqrt(yy)
        mean_x = camera[CAM_FX] * x / z + camera[CAM_CX]
        mean_y = camera[CAM_FY] * y / z + camera[CAM_CY]
        # gsplat's test: the box rounded up to whole pixels meets the image. False also for whatever is not a number.
        radius_x, radius_y = math.ceil(extent_x), math.ceil(extent_y)
        if not (
            determinant < _TOO_LARGE and radius_x > ZERO and radius_y > ZERO
            and mean_x + radius_x > ZERO and mean_x - radius_x < width
            and mean_y + radius_y > ZERO and mean_y - radius_y < height
        ):  # fmt: skip
            continue

        scale = LOG2E / determinant
        splat[MEAN_X], splat[MEAN_Y] = mean_x, mean_y
        splat[XX], splat[XY], splat[YY] = -HALF * scale * yy, scale * xy, -HALF * scale * xx
        splat[LOG2_OPACITY], splat[DEPTH] = log2_opacity, z
        splat[EXTENT_X], splat[EXTENT_Y] = extent_x, extent_y

        dx, dy, dz = px - camera[CAM_CENTER], py - camera[CAM_CENTER + 1], pz - camera[CAM_CENTER + 2]
        inverse = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
        sh_basis(dx * inverse, dy * inverse, dz * inverse, count, basis)
        red, green, blue = sh_color(sh[i], basis, count)
        splat[RAW_RED], splat[RAW_RED + 1], splat[RAW_RED + 2] = red, green, blue
        splat[RED], splat[GREEN], splat[BLUE] = max(red, ZERO), max(green, ZERO), max(blue, ZERO)
