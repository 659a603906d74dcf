"""The tracking cloud in all frames of a batch, in numba: float32 on the CPU. See
``likeness.ops.deform.batched``.

frames: [B, 2, 16] of head and body: rotation [9] by rows, translation [3], unit quaternion wxyz
    [4].
sheets: [B, rows, columns, 2] metres of sway; constants: as for
    ``likeness.ops.deform.motion_kernels``.

WIDTH Gaussians are at work at a time; their numbers lie side by side, WIDTH of each kind.
"""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, inlined, kernel
from likeness.ops.deform.motion_kernels import corner_weights, offset, slopes
from likeness.ops.deform.skinning_kernels import product
from likeness.ops.simd import (
    WIDTH,
    add_lane_sums,
    broadcast,
    larger,
    load,
    muladd,
    root,
    smaller,
    store,
    where,
)
from likeness.renderers.cpu_kernels.layout import ONE, ZERO
from likeness.renderers.cpu_kernels.projection import dot

_SMALL = 1e-3  # radians below which the first terms of a series are exact in double precision


@helper(ANY_NUMBER)
def _turn(x, y, z):
    """The quaternion (cos a/2, s (x, y, z)) of a rotation vector of length a: its w and s, and
    (ds/da) / a."""
    square = x * x + y * y + z * z
    angle = math.sqrt(square)
    if angle < _SMALL:
        return 1 - square / 8 + square * square / 384, 0.5 - square / 48, square / 960 - 1 / 24
    w, s = math.cos(angle / 2), math.sin(angle / 2) / angle
    return w, s, (w / 2 - s) / square


@helper(ANY_NUMBER)
def _rotation(w, x, y, z, out):
    out[0], out[1], out[2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[3], out[4], out[5] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[6], out[7], out[8] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)


@kernel(ANY_NUMBER)
def place_frames(corrections, bases, unit_m, frames):
    """Writes frames [B, 2, 16] from corrections [B, 2, 6], rotation vectors in radians and
    translations in ``unit_m`` metres, that each act before a base [B, 2, 16]."""
    own = np.empty(9)
    for k in range(2 * frames.shape[0]):
        correction, base, out = (
            corrections[k // 2, k % 2],
            bases[k // 2, k % 2],
            frames[k // 2, k % 2],
        )
        x, y, z = np.float64(correction[0]), np.float64(correction[1]), np.float64(correction[2])
        w, s, _ = _turn(x, y, z)
        x, y, z = s * x, s * y, s * z
        _rotation(w, x, y, z, own)
        for i in range(3):
            a, b, c = base[3 * i], base[3 * i + 1], base[3 * i + 2]
            for j in range(3):
                out[3 * i + j] = a * own[j] + b * own[3 + j] + c * own[6 + j]
            out[9 + i] = base[9 + i] + unit_m * (
                a * correction[3] + b * correction[4] + c * correction[5]
            )
        qw, qx, qy, qz = product(base[12], base[13], base[14], base[15], w, x, y, z)
        sign = -1.0 if qw < 0 else 1.0
        out[12], out[13], out[14], out[15] = sign * qw, sign * qx, sign * qy, sign * qz


@kernel(ANY_NUMBER)
def place_frames_backward(corrections, bases, unit_m, g_frames, g_corrections):
    """Writes the gradients [B, 2, 6] of ``place_frames`` from those of the frames, the sum over the
    first dimension of g_frames [parts, B, 2, 16]."""
    d, g = np.empty(9), np.empty(16)
    for k in range(2 * corrections.shape[0]):
        correction, base, out = (
            corrections[k // 2, k % 2],
            bases[k // 2, k % 2],
            g_corrections[k // 2, k % 2],
        )
        g[:] = 0
        for part in range(g_frames.shape[0]):
            g += g_frames[part, k // 2, k % 2]
        for j in range(3):
            out[3 + j] = unit_m * (base[j] * g[9] + base[3 + j] * g[10] + base[6 + j] * g[11])
            for i in range(3):
                d[3 * i + j] = base[i] * g[j] + base[3 + i] * g[3 + j] + base[6 + i] * g[6 + j]
        rx, ry, rz = np.float64(correction[0]), np.float64(correction[1]), np.float64(correction[2])
        w, s, slope = _turn(rx, ry, rz)
        x, y, z = s * rx, s * ry, s * rz
        whole, _, _, _ = product(base[12], base[13], base[14], base[15], w, x, y, z)
        sign = -1.0 if whole < 0 else 1.0
        gw, gx, gy, gz = product(
            base[12], -base[13], -base[14], -base[15], g[12], g[13], g[14], g[15]
        )
        gw = sign * gw + 2 * (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1]))
        gx = sign * gx + 2 * (
            w * (d[7] - d[5]) - 2 * x * (d[4] + d[8]) + y * (d[1] + d[3]) + z * (d[2] + d[6])
        )
        gy = sign * gy + 2 * (
            w * (d[2] - d[6]) + x * (d[1] + d[3]) - 2 * y * (d[0] + d[8]) + z * (d[5] + d[7])
        )
        gz = sign * gz + 2 * (
            w * (d[3] - d[1]) + x * (d[2] + d[6]) + y * (d[5] + d[7]) - 2 * z * (d[0] + d[4])
        )
        # w = cos a/2 changes by -s/2 times the vector, s by its slope times the vector.
        along = slope * (gx * rx + gy * ry + gz * rz) - s * gw / 2
        out[0], out[1], out[2] = s * gx + along * rx, s * gy + along * ry, s * gz + along * rz


@helper(ANY_NUMBER)
def _rows(count):
    return np.zeros(count * WIDTH, np.float32)


@inlined(ANY_NUMBER)
def _take(table, columns, first, count, out, row):
    """Writes the columns of ``count`` rows of a table to ``out``, from its row ``row`` on."""
    for k in range(count):
        for column in range(columns):
            out[(row + column) * WIDTH + k] = table[first + k, column]


@inlined(ANY_NUMBER)
def _give(rows, row, columns, first, count, table):
    """The reverse of ``_take``."""
    for k in range(count):
        for column in range(columns):
            table[first + k, column] = rows[(row + column) * WIDTH + k]


@inlined(AS_WRITTEN)
def _hamilton(aw, ax, ay, az, bw, bx, by, bz):
    return (
        muladd(aw, bw, -dot(ax, ay, az, bx, by, bz)),
        muladd(ax, bw, dot(aw, ay, -az, bx, bz, by)),
        muladd(ay, bw, dot(aw, az, -ax, by, bx, bz)),
        muladd(az, bw, dot(aw, ax, -ay, bz, by, bx)),
    )


@inlined(AS_WRITTEN)
def _between(frames, w):
    """The blended quaternion of head and body, normalised, and one over its length before."""
    body, head = frames[1], frames[0]
    qw = muladd(w, broadcast(head[12] - body[12]), broadcast(body[12]))
    qx = muladd(w, broadcast(head[13] - body[13]), broadcast(body[13]))
    qy = muladd(w, broadcast(head[14] - body[14]), broadcast(body[14]))
    qz = muladd(w, broadcast(head[15] - body[15]), broadcast(body[15]))
    inverse = broadcast(ONE) / root(muladd(qw, qw, dot(qx, qy, qz, qx, qy, qz)))
    return qw * inverse, qx * inverse, qy * inverse, qz * inverse, inverse


@inlined(AS_WRITTEN)
def _soften(rest, constants, points, soft):
    """Adds what is at rest to the points [3]; writes soft [4]: how soft they are there, and its
    gradient."""
    x, y, z = load(points, 0), load(points, WIDTH), load(points, 2 * WIDTH)
    x, y, z = x + load(rest, 0), y + load(rest, WIDTH), z + load(rest, 2 * WIDTH)
    store(points, 0, x)
    store(points, WIDTH, y)
    store(points, 2 * WIDTH, z)
    ix, iy, iz, steepness = (
        broadcast(constants[7]),
        broadcast(constants[8]),
        broadcast(constants[9]),
        broadcast(constants[10]),
    )
    u, v, w = x - broadcast(constants[4]), y - broadcast(constants[5]), z - broadcast(constants[6])
    u, v, w = u * ix, v * iy, w * iz
    zero, one = broadcast(ZERO), broadcast(ONE)
    distance = root(dot(u, v, w, u, v, w))
    value = (distance - one) * steepness
    slope = where((value > zero) & (value < one), steepness / distance, zero)
    store(soft, 0, smaller(larger(value, zero), one))
    store(soft, WIDTH, slope * u * ix)
    store(soft, 2 * WIDTH, slope * v * iy)
    store(soft, 3 * WIDTH, slope * w * iz)


@helper(ANY_NUMBER)
def _sway(count, sheet, constants, points, soft, apply_secondary_motion):
    """Writes the swayed x and y of points."""
    for k in range(count):
        x, y, s = points[k], points[WIDTH + k], soft[k]
        if s != ZERO:
            dx, dy = offset(x, y, sheet, constants)
            x += s * dx
            y += s * dy
        apply_secondary_motion[k], apply_secondary_motion[WIDTH + k] = x, y


@helper(ANY_NUMBER)
def _sway_backward(count, sheet, constants, points, soft, t, g_sheet):
    """From the gradients t by swayed points to those by ``points``, in place; adds to
    ``g_sheet``."""
    for k in range(count):
        s, tx, ty = soft[k], t[k], t[WIDTH + k]
        if s == ZERO:
            continue
        i, j, u, v, change, along_x, along_y = slopes(
            points[k], points[WIDTH + k], tx, ty, sheet, constants
        )
        w00, w01, w10, w11 = corner_weights(u, v)
        g_low, g_high, gx, gy = g_sheet[i], g_sheet[i + 1], s * tx, s * ty
        g_low[j, 0] += w00 * gx
        g_low[j, 1] += w00 * gy
        g_low[j + 1, 0] += w01 * gx
        g_low[j + 1, 1] += w01 * gy
        g_high[j, 0] += w10 * gx
        g_high[j, 1] += w10 * gy
        g_high[j + 1, 0] += w11 * gx
        g_high[j + 1, 1] += w11 * gy
        tx += change * soft[WIDTH + k] + s * along_x
        ty += change * soft[2 * WIDTH + k] + s * along_y
        t[k], t[WIDTH + k] = tx, ty
        t[2 * WIDTH + k] += change * soft[3 * WIDTH + k]


@inlined(AS_WRITTEN)
def _skin(frames, rest, points, apply_secondary_motion, out):
    """Writes means and quaternions [7]."""
    body, head, w = frames[1], frames[0], load(rest, 7 * WIDTH)
    x, y, z = (
        load(apply_secondary_motion, 0),
        load(apply_secondary_motion, WIDTH),
        load(points, 2 * WIDTH),
    )
    for row in range(3):
        own = dot(
            broadcast(head[3 * row]),
            broadcast(head[3 * row + 1]),
            broadcast(head[3 * row + 2]),
            x,
            y,
            z,
        )
        other = dot(
            broadcast(body[3 * row]),
            broadcast(body[3 * row + 1]),
            broadcast(body[3 * row + 2]),
            x,
            y,
            z,
        )
        other = other + broadcast(body[9 + row])
        store(out, row * WIDTH, muladd(w, own + broadcast(head[9 + row]) - other, other))
    qw, qx, qy, qz, _ = _between(frames, w)
    rw, rx, ry, rz = (
        load(rest, 3 * WIDTH),
        load(rest, 4 * WIDTH),
        load(rest, 5 * WIDTH),
        load(rest, 6 * WIDTH),
    )
    rw, rx, ry, rz = _hamilton(qw, qx, qy, qz, rw, rx, ry, rz)
    store(out, 3 * WIDTH, rw)
    store(out, 4 * WIDTH, rx)
    store(out, 5 * WIDTH, ry)
    store(out, 6 * WIDTH, rz)


@kernel(AS_WRITTEN)
def pose(
    first,
    last,
    means,
    quats,
    weights,
    shift,
    frames,
    sheets,
    constants,
    out_means,
    out_quats,
    out_swayed,
):
    """Writes the Gaussians ``first`` to ``last`` of all frames: out_means [B, N, 3], out_quats [B,
    N, 4] and, for the backward pass, out_swayed [B, N, 2], their x and y before they are placed.

    means [N, 3], quats [N, 4]: at rest. weights: [N, 1] of the head. shift: [B, N, 3], how
    expressions move the means.
    """
    rest, points, soft, apply_secondary_motion, out = (
        _rows(8),
        _rows(3),
        _rows(4),
        _rows(2),
        _rows(7),
    )
    for start in range(first, last, WIDTH):
        count = min(WIDTH, last - start)
        _take(means, 3, start, count, rest, 0)
        _take(quats, 4, start, count, rest, 3)
        _take(weights, 1, start, count, rest, 7)
        for b in range(out_means.shape[0]):
            _take(shift[b], 3, start, count, points, 0)
            _soften(rest, constants, points, soft)
            _sway(count, sheets[b], constants, points, soft, apply_secondary_motion)
            _skin(frames[b], rest, points, apply_secondary_motion, out)
            _give(out, 0, 3, start, count, out_means[b])
            _give(out, 3, 4, start, count, out_quats[b])
            _give(apply_secondary_motion, 0, 2, start, count, out_swayed[b])


@inlined(AS_WRITTEN)
def _skin_backward(frames, rest, points, apply_secondary_motion, by, t, g_rest, g_frames):
    """From gradients ``by`` [7] of means and quaternions: writes those of the swayed points to t
    [3]; adds those of quaternions and weights to the rows 3 to 7 of ``g_rest``, and those of the
    frames."""
    body, head, w = frames[1], frames[0], load(rest, 7 * WIDTH)
    x, y, z = (
        load(apply_secondary_motion, 0),
        load(apply_secondary_motion, WIDTH),
        load(points, 2 * WIDTH),
    )
    gx, gy, gz = load(by, 0), load(by, WIDTH), load(by, 2 * WIDTH)
    by_weight = load(g_rest, 7 * WIDTH)
    for row in range(3):
        a, b, c = head[3 * row], head[3 * row + 1], head[3 * row + 2]
        apart = dot(
            broadcast(a - body[3 * row]),
            broadcast(b - body[3 * row + 1]),
            broadcast(c - body[3 * row + 2]),
            x,
            y,
            z,
        )
        apart = apart + broadcast(head[9 + row] - body[9 + row])
        by_weight = muladd(load(by, row * WIDTH), apart, by_weight)
    v = broadcast(ONE) - w
    hx, hy, hz, bx, by_, bz = w * gx, w * gy, w * gz, v * gx, v * gy, v * gz
    for axis in range(3):
        own = dot(
            broadcast(head[axis]), broadcast(head[3 + axis]), broadcast(head[6 + axis]), hx, hy, hz
        )
        other = dot(
            broadcast(body[axis]), broadcast(body[3 + axis]), broadcast(body[6 + axis]), bx, by_, bz
        )
        store(t, axis * WIDTH, own + other)

    qw, qx, qy, qz, inverse = _between(frames, w)
    gw, qgx, qgy, qgz = (
        load(by, 3 * WIDTH),
        load(by, 4 * WIDTH),
        load(by, 5 * WIDTH),
        load(by, 6 * WIDTH),
    )
    ow, ox, oy, oz = _hamilton(qw, -qx, -qy, -qz, gw, qgx, qgy, qgz)
    rw, rx, ry, rz = (
        load(rest, 3 * WIDTH),
        load(rest, 4 * WIDTH),
        load(rest, 5 * WIDTH),
        load(rest, 6 * WIDTH),
    )
    store(g_rest, 3 * WIDTH, load(g_rest, 3 * WIDTH) + ow)
    store(g_rest, 4 * WIDTH, load(g_rest, 4 * WIDTH) + ox)
    store(g_rest, 5 * WIDTH, load(g_rest, 5 * WIDTH) + oy)
    store(g_rest, 6 * WIDTH, load(g_rest, 6 * WIDTH) + oz)
    pw, px, py, pz = _hamilton(gw, qgx, qgy, qgz, rw, -rx, -ry, -rz)
    along = muladd(pw, qw, dot(px, py, pz, qx, qy, qz))
    pw, px, py, pz = (pw - along * qw), (px - along * qx), (py - along * qy), (pz - along * qz)
    pw, px, py, pz = inverse * pw, inverse * px, inverse * py, inverse * pz
    by_weight = muladd(pw, broadcast(head[12] - body[12]), by_weight)
    by_weight = muladd(px, broadcast(head[13] - body[13]), by_weight)
    by_weight = muladd(py, broadcast(head[14] - body[14]), by_weight)
    store(g_rest, 7 * WIDTH, muladd(pz, broadcast(head[15] - body[15]), by_weight))
    add_lane_sums(  # in the order of a frame
        g_frames,
        0,
        hx * x,
        hx * y,
        hx * z,
        hy * x,
        hy * y,
        hy * z,
        hz * x,
        hz * y,
        hz * z,
        hx,
        hy,
        hz,
        w * pw,
        w * px,
        w * py,
        w * pz,
    )
    add_lane_sums(
        g_frames,
        16,
        bx * x,
        bx * y,
        bx * z,
        by_ * x,
        by_ * y,
        by_ * z,
        bz * x,
        bz * y,
        bz * z,
        bx,
        by_,
        bz,
        v * pw,
        v * px,
        v * py,
        v * pz,
    )


@kernel(AS_WRITTEN)
def pose_backward(
    first,
    last,
    means,
    quats,
    weights,
    shift,
    frames,
    sheets,
    constants,
    before,
    by_means,
    by_quats,
    g_means,
    g_quats,
    g_weights,
    g_shift,
    g_frames,
    g_sheets,
):
    """The gradients of ``pose`` from those of its results, ``by_*``; before: its ``out_swayed``.

    Writes the Gaussians ``first`` to ``last`` of g_means [N, 3], g_quats [N, 4], g_weights [N, 1]
    and g_shift [B, N, 3]; adds to g_frames [B, 32] and g_sheets [B, rows, columns, 2].
    """
    rest, points, soft, apply_secondary_motion = _rows(8), _rows(3), _rows(4), _rows(2)
    by, t, g_rest = _rows(7), _rows(3), _rows(8)
    for start in range(first, last, WIDTH):
        count = min(WIDTH, last - start)
        _take(means, 3, start, count, rest, 0)
        _take(quats, 4, start, count, rest, 3)
        _take(weights, 1, start, count, rest, 7)
        g_rest[:] = ZERO
        if count < WIDTH:
            by[:] = ZERO  # what lies beyond adds nothing to the frames
        for b in range(by_means.shape[0]):
            _take(shift[b], 3, start, count, points, 0)
            _soften(rest, constants, points, soft)
            _take(before[b], 2, start, count, apply_secondary_motion, 0)
            _take(by_means[b], 3, start, count, by, 0)
            _take(by_quats[b], 4, start, count, by, 3)
            _skin_backward(
                frames[b], rest, points, apply_secondary_motion, by, t, g_rest, g_frames[b]
            )
            _sway_backward(count, sheets[b], constants, points, soft, t, g_sheets[b])
            _give(t, 0, 3, start, count, g_shift[b])
            for axis in range(3):
                store(g_rest, axis * WIDTH, load(g_rest, axis * WIDTH) + load(t, axis * WIDTH))
        _give(g_rest, 0, 3, start, count, g_means)
        _give(g_rest, 3, 4, start, count, g_quats)
        _give(g_rest, 7, 1, start, count, g_weights)
