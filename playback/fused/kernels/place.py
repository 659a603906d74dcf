"""Clouds, one Gaussian to a lane: moved by the rig, by secondary motion, and by the two frames of
head and body.

Formulas and their order are those of ``likeness.ops.deform`` and
``likeness.fitting.avatars.linear``.
"""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from likeness.fitting.avatars.base import LOG_SCALE_LIMITS
from likeness.fitting.avatars.linear import ROTATION_RAD, TRANSLATION_M
from likeness.playback.fused.kernels import state as shared
from likeness.playback.fused.kernels.rotations import product, turned_by
from likeness.scene.lattice import COLUMNS, FACE_EDGE, FACE_M, FACE_RADII_M, HIGH_M, LOW_M, ROWS
from likeness.scene.rig_binding import LARGEST_GROWTH

_FRAMES, _HARMONICS = tl.constexpr(shared.FRAMES), tl.constexpr(shared.HARMONICS)
_TRANSLATION_M, _ROTATION_RAD = tl.constexpr(TRANSLATION_M), tl.constexpr(ROTATION_RAD)
_SMALLEST, _LARGEST = (tl.constexpr(limit) for limit in LOG_SCALE_LIMITS)
_LARGEST_GROWTH = tl.constexpr(LARGEST_GROWTH)
_COLUMNS, _ROWS = tl.constexpr(COLUMNS), tl.constexpr(ROWS)
_LOW_X, _LOW_Y = (tl.constexpr(value) for value in LOW_M)
_PER_METRE_X, _PER_METRE_Y = (
    tl.constexpr((points - 1) / (high - low))
    for points, low, high in zip((COLUMNS, ROWS), LOW_M, HIGH_M)
)
_FACE_X, _FACE_Y, _FACE_Z = (tl.constexpr(value) for value in FACE_M)
_RADIUS_X, _RADIUS_Y, _RADIUS_Z = (tl.constexpr(value) for value in FACE_RADII_M)
_FACE_EDGE = tl.constexpr(FACE_EDGE)


@triton.jit
def place_linear(
    state,
    frames,
    moved,
    bound,
    vertices,
    blended,
    rest,
    changes,
    means,
    quats,
    scales,
    opacities,
    harmonics,
    count,
    stride,
    MOTION: tl.constexpr,
    CHANGING: tl.constexpr,
    DEGREE: tl.constexpr,
    SWAY: tl.constexpr,
    RIGGED: tl.constexpr,
    SWAYING: tl.constexpr,
    TWO_FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The cloud of a linear avatar.

    state: as ``read_state`` has it, with the secondary motion's offsets [rows, columns, 2] from
    SWAY on. frames: ``read_state``'s, with the rotation of harmonics behind them. moved: how far
    the rig's vertices are, [V, 3].
    Of Gaussians there is a row of ``stride`` numbers for each value: bound (head weight, rig
    weights 3), vertices (3, int32), blended (opacity logits, harmonics and, with MOTION,
    translation, rotation and log-scales, as the codes say), rest (mean 3, unit quaternion 4,
    log-scales 3) and, with CHANGING, changes (``RigBinding``; those of colour are the caller's).
    means [N, 3], quats [N, 4], scales [N, 3], opacities [N], harmonics [N, K, 3]: the results; N is
    ``count``.
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = n < count
    rest = rest + n
    blended = blended + n
    COEFFICIENTS: tl.constexpr = (DEGREE + 1) * (DEGREE + 1)
    x = tl.load(rest)
    y = tl.load(rest + stride)
    z = tl.load(rest + 2 * stride)
    qw = tl.load(rest + 3 * stride)
    qx = tl.load(rest + 4 * stride)
    qy = tl.load(rest + 5 * stride)
    qz = tl.load(rest + 6 * stride)
    s0 = tl.load(rest + 7 * stride)
    s1 = tl.load(rest + 8 * stride)
    s2 = tl.load(rest + 9 * stride)
    if MOTION:
        motion = blended + (1 + 3 * COEFFICIENTS) * stride
        x += tl.load(motion) * _TRANSLATION_M
        y += tl.load(motion + stride) * _TRANSLATION_M
        z += tl.load(motion + 2 * stride) * _TRANSLATION_M
        tw, tx, ty, tz = turned_by(
            tl.load(motion + 3 * stride) * _ROTATION_RAD,
            tl.load(motion + 4 * stride) * _ROTATION_RAD,
            tl.load(motion + 5 * stride) * _ROTATION_RAD,
        )
        qw, qx, qy, qz = product(tw, tx, ty, tz, qw, qx, qy, qz)
        s0 += tl.load(motion + 6 * stride)
        s1 += tl.load(motion + 7 * stride)
        s2 += tl.load(motion + 8 * stride)
    g0 = tl.zeros((BLOCK,), tl.float32)
    g1 = g0
    g2 = g0
    if CHANGING:
        change = changes + n
        xx = tl.load(change + 3 * stride)
        yy = tl.load(change + 4 * stride)
        zz = tl.load(change + 5 * stride)
        xy = tl.load(change + 6 * stride)
        xz = tl.load(change + 7 * stride)
        yz = tl.load(change + 8 * stride)
        a = 1 - 2 * (qy * qy + qz * qz)
        b = 2 * (qx * qy + qw * qz)
        c = 2 * (qx * qz - qw * qy)
        g0 = _growth(a, b, c, xx, yy, zz, xy, xz, yz)
        a = 2 * (qx * qy - qw * qz)
        b = 1 - 2 * (qx * qx + qz * qz)
        c = 2 * (qy * qz + qw * qx)
        g1 = _growth(a, b, c, xx, yy, zz, xy, xz, yz)
        a = 2 * (qx * qz + qw * qy)
        b = 2 * (qy * qz - qw * qx)
        c = 1 - 2 * (qx * qx + qy * qy)
        g2 = _growth(a, b, c, xx, yy, zz, xy, xz, yz)
        tw, tx, ty, tz = turned_by(
            tl.load(change), tl.load(change + stride), tl.load(change + 2 * stride)
        )
        qw, qx, qy, qz = product(tw, tx, ty, tz, qw, qx, qy, qz)
    x, y, z, qw, qx, qy, qz = _placed(
        x,
        y,
        z,
        qw,
        qx,
        qy,
        qz,
        n,
        state,
        frames,
        moved,
        bound,
        vertices,
        stride,
        SWAY,
        RIGGED,
        SWAYING,
        TWO_FRAMES,
    )
    _store_triples(means, n, there, x, y, z)
    _store_quats(quats, n, there, qw, qx, qy, qz)
    s0, s1, s2 = _bounded(s0) * tl.exp(g0), _bounded(s1) * tl.exp(g1), _bounded(s2) * tl.exp(g2)
    _store_triples(scales, n, there, s0, s1, s2)
    tl.store(opacities + n, tl.sigmoid(tl.load(blended)), mask=there)
    _store_harmonics(
        harmonics, blended + stride, stride, n, there, frames, bound, DEGREE, TWO_FRAMES, BLOCK
    )


@triton.jit
def place_cloud(
    state,
    frames,
    moved,
    bound,
    vertices,
    means,
    quats,
    harmonics,
    new_means,
    new_quats,
    new_harmonics,
    count,
    stride,
    DEGREE: tl.constexpr,
    SWAY: tl.constexpr,
    RIGGED: tl.constexpr,
    SWAYING: tl.constexpr,
    TWO_FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A canonical cloud (means [N, 3], quats [N, 4], harmonics [N, K, 3]) to another in its place;
    without TWO_FRAMES only its means. For the rest see ``place_linear``."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = n < count
    x = tl.load(means + 3 * n, mask=there, other=0.0)
    y = tl.load(means + 3 * n + 1, mask=there, other=0.0)
    z = tl.load(means + 3 * n + 2, mask=there, other=0.0)
    qw = tl.load(quats + 4 * n, mask=there, other=1.0)
    qx = tl.load(quats + 4 * n + 1, mask=there, other=0.0)
    qy = tl.load(quats + 4 * n + 2, mask=there, other=0.0)
    qz = tl.load(quats + 4 * n + 3, mask=there, other=0.0)
    x, y, z, qw, qx, qy, qz = _placed(
        x,
        y,
        z,
        qw,
        qx,
        qy,
        qz,
        n,
        state,
        frames,
        moved,
        bound,
        vertices,
        stride,
        SWAY,
        RIGGED,
        SWAYING,
        TWO_FRAMES,
    )
    _store_triples(new_means, n, there, x, y, z)
    if TWO_FRAMES:
        _store_quats(new_quats, n, there, qw, qx, qy, qz)
        COEFFICIENTS: tl.constexpr = (DEGREE + 1) * (DEGREE + 1)
        given = harmonics + 3 * COEFFICIENTS * tl.minimum(n, count - 1)
        _store_harmonics(
            new_harmonics, given, 1, n, there, frames, bound, DEGREE, TWO_FRAMES, BLOCK
        )


@triton.jit
def _placed(
    x,
    y,
    z,
    qw,
    qx,
    qy,
    qz,
    n,
    state,
    frames,
    moved,
    bound,
    vertices,
    stride,
    SWAY: tl.constexpr,
    RIGGED: tl.constexpr,
    SWAYING: tl.constexpr,
    TWO_FRAMES: tl.constexpr,
):
    """Means and quaternions in their place."""
    if RIGGED:
        for corner in tl.static_range(3):
            weight = tl.load(bound + (1 + corner) * stride + n)
            vertex = moved + 3 * tl.load(vertices + corner * stride + n)
            x += weight * tl.load(vertex)
            y += weight * tl.load(vertex + 1)
            z += weight * tl.load(vertex + 2)

    if SWAYING:
        u = (x - _FACE_X) / _RADIUS_X
        v = (y - _FACE_Y) / _RADIUS_Y
        w = (z - _FACE_Z) / _RADIUS_Z
        soft = (tl.sqrt(u * u + v * v + w * w) - 1) / _FACE_EDGE
        soft = tl.minimum(tl.maximum(soft, 0.0), 1.0)
        across = tl.minimum(tl.maximum((x - _LOW_X) * _PER_METRE_X, 0.0), _COLUMNS - 1.0)
        up = tl.minimum(tl.maximum((y - _LOW_Y) * _PER_METRE_Y, 0.0), _ROWS - 1.0)
        j = tl.minimum(across.to(tl.int32), _COLUMNS - 2)
        i = tl.minimum(up.to(tl.int32), _ROWS - 2)
        u = across - j.to(tl.float32)
        v = up - i.to(tl.float32)
        point = state + SWAY + 2 * (i * _COLUMNS + j)
        x += soft * _between(point, u, v)
        y += soft * _between(point + 1, u, v)

    if TWO_FRAMES:
        weight = tl.load(bound + n)
        bx = (
            x * tl.load(frames)
            + y * tl.load(frames + 1)
            + z * tl.load(frames + 2)
            + tl.load(frames + 9)
        )
        by = (
            x * tl.load(frames + 3)
            + y * tl.load(frames + 4)
            + z * tl.load(frames + 5)
            + tl.load(frames + 10)
        )
        bz = (
            x * tl.load(frames + 6)
            + y * tl.load(frames + 7)
            + z * tl.load(frames + 8)
            + tl.load(frames + 11)
        )
        x = bx + weight * (x - bx)
        y = by + weight * (y - by)
        z = bz + weight * (z - bz)
        bw = tl.load(frames + 12)
        tw = bw + weight * (1 - bw)  # the head's own quaternion is the identity
        tx = tl.load(frames + 13) * (1 - weight)
        ty = tl.load(frames + 14) * (1 - weight)
        tz = tl.load(frames + 15) * (1 - weight)
        scale = 1 / tl.maximum(tl.sqrt(tw * tw + tx * tx + ty * ty + tz * tz), 1e-12)
        qw, qx, qy, qz = product(tw * scale, tx * scale, ty * scale, tz * scale, qw, qx, qy, qz)
    return x, y, z, qw, qx, qy, qz


@triton.jit
def _between(point, u, v):
    """Bilinear between a control point, the next one of its row, and the two above them."""
    low = tl.load(point) * (1 - u) + tl.load(point + 2) * u
    high = tl.load(point + 2 * _COLUMNS) * (1 - u) + tl.load(point + 2 * _COLUMNS + 2) * u
    return low * (1 - v) + high * v


@triton.jit
def _store_harmonics(
    out,
    given,
    stride,
    n,
    there,
    frames,
    bound,
    DEGREE: tl.constexpr,
    TWO_FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Harmonics [N, K, 3], rotated with the body as far as Gaussians follow it; given: those of
    lane n, ``stride`` apart from one value to the next."""
    COEFFICIENTS: tl.constexpr = (DEGREE + 1) * (DEGREE + 1)
    out = out + 3 * COEFFICIENTS * n
    weight = tl.load(bound + n)
    for channel in range(3):  # not unrolled, as rows: seconds to compile instead of half a minute
        tl.store(out + channel, tl.load(given + channel * stride), mask=there)
        for band in tl.static_range(1, DEGREE + 1):
            first = given + (3 * band * band + channel) * stride
            for row in range(2 * band + 1):
                value = tl.load(first + 3 * row * stride)
                if TWO_FRAMES:
                    D = frames + _FRAMES + (band * band + row) * _HARMONICS + band * band
                    rotated = tl.zeros((BLOCK,), tl.float32)
                    for column in tl.static_range(2 * band + 1):
                        rotated += tl.load(D + column) * tl.load(first + 3 * column * stride)
                    value = rotated + weight * (value - rotated)
                tl.store(out + 3 * (band * band + row) + channel, value, mask=there)


@triton.jit
def _store_triples(out, n, there, x, y, z):
    tl.store(out + 3 * n, x, mask=there)
    tl.store(out + 3 * n + 1, y, mask=there)
    tl.store(out + 3 * n + 2, z, mask=there)


@triton.jit
def _store_quats(out, n, there, w, x, y, z):
    tl.store(out + 4 * n, w, mask=there)
    tl.store(out + 4 * n + 1, x, mask=there)
    tl.store(out + 4 * n + 2, y, mask=there)
    tl.store(out + 4 * n + 3, z, mask=there)


@triton.jit
def _growth(a, b, c, xx, yy, zz, xy, xz, yz):
    """``likeness.ops.rig_changes``' logarithm of growth along a unit axis (a, b, c)."""
    along = xx * a * a + yy * b * b + zz * c * c + 2 * (xy * a * b + xz * a * c + yz * b * c)
    return tl.minimum(tl.maximum(along, -_LARGEST_GROWTH), _LARGEST_GROWTH)


@triton.jit
def _bounded(log_scale):
    """``bounded_scales``."""
    return tl.exp(tl.minimum(tl.maximum(log_scale, _SMALLEST), _LARGEST))
