"""Points that follow a mesh and that sway, in numba: float32 on the CPU. See
``likeness.ops.deform.rig`` and ``likeness.ops.deform.secondary_motion``."""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, inlined, kernel

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined(ANY_NUMBER)
def weighed_corners(n, vertices, weights, moved):
    """Σ_k weights[n, k] moved[vertices[n, k]] along x, y and z."""
    a, b, c = moved[vertices[n, 0]], moved[vertices[n, 1]], moved[vertices[n, 2]]
    u, v, w = weights[n, 0], weights[n, 1], weights[n, 2]
    return (
        u * a[0] + v * b[0] + w * c[0],
        u * a[1] + v * b[1] + w * c[1],
        u * a[2] + v * b[2] + w * c[2],
    )


@kernel()
def weigh_corners(first, last, moved, vertices, weights, out):
    """Writes the rows ``first`` to ``last`` of out [N, 3]: Σ_k weights[n, k] moved[vertices[n, k]];
    moved: [V, 3].

    Returns whether all vertices exist; the first that does not ends it.
    """
    for n in range(first, last):
        i, j, k = vertices[n, 0], vertices[n, 1], vertices[n, 2]
        if min(i, j, k) < 0 or max(i, j, k) >= moved.shape[0]:
            return False
        out[n, 0], out[n, 1], out[n, 2] = weighed_corners(n, vertices, weights, moved)
    return True


@inlined(ANY_NUMBER)
def cell(value, low, per_metre, points):
    """The control point below a coordinate, the weight of the next one, and whether it moves with
    the value.

    What is not a number is taken for the first point.
    """
    at, last = (value - low) * per_metre, np.float32(points - 1)
    inside = at > _ZERO and at < last
    if not at > _ZERO:
        at = _ZERO
    if at > last:
        at = last
    cell = min(int(at), points - 2)
    return cell, at - np.float32(cell), inside


@inlined(ANY_NUMBER)
def softness(x, y, z, constants):
    """0 inside the face, 1 well outside of it; and its gradient."""
    ix, iy, iz = constants[7], constants[8], constants[9]
    u, v, w = (x - constants[4]) * ix, (y - constants[5]) * iy, (z - constants[6]) * iz
    distance = math.sqrt(u * u + v * v + w * w)
    soft = (distance - _ONE) * constants[10]
    if soft <= _ZERO:
        return _ZERO, _ZERO, _ZERO, _ZERO
    if soft >= _ONE:
        return _ONE, _ZERO, _ZERO, _ZERO
    scale = constants[10] / distance
    return soft, scale * u * ix, scale * v * iy, scale * w * iz


@inlined(ANY_NUMBER)
def corner_weights(u, v):
    """Of the control points below and beside (0, 0), (0, 1), (1, 0), (1, 1), as (row, column)."""
    w11 = u * v
    w10, w01 = v - w11, u - w11
    return _ONE - u - w10, w01, w10, w11


@inlined(ANY_NUMBER)
def offset(x, y, sheet, constants):
    """The bilinear offset in x and y of a sheet [rows, columns, 2] at a point."""
    j, u, _ = cell(x, constants[0], constants[2], sheet.shape[1])
    i, v, _ = cell(y, constants[1], constants[3], sheet.shape[0])
    low, high = sheet[i], sheet[i + 1]
    w00, w01, w10, w11 = corner_weights(u, v)
    return (
        w00 * low[j, 0] + w01 * low[j + 1, 0] + w10 * high[j, 0] + w11 * high[j + 1, 0],
        w00 * low[j, 1] + w01 * low[j + 1, 1] + w10 * high[j, 1] + w11 * high[j + 1, 1],
    )


@inlined(ANY_NUMBER)
def slopes(x, y, gx, gy, sheet, constants):
    """For the gradient (gx, gy) by a point's offset: row, column and place of its cell, the offset
    along the gradient, and how this changes with x and y."""
    j, u, moves_x = cell(x, constants[0], constants[2], sheet.shape[1])
    i, v, moves_y = cell(y, constants[1], constants[3], sheet.shape[0])
    low, high = sheet[i], sheet[i + 1]
    d00 = gx * low[j, 0] + gy * low[j, 1]
    d01 = gx * low[j + 1, 0] + gy * low[j + 1, 1]
    d10 = gx * high[j, 0] + gy * high[j, 1]
    d11 = gx * high[j + 1, 0] + gy * high[j + 1, 1]
    below, above = d00 + u * (d01 - d00), d10 + u * (d11 - d10)
    by_x, by_y = _ZERO, _ZERO
    if moves_x:
        by_x = constants[2] * ((_ONE - v) * (d01 - d00) + v * (d11 - d10))
    if moves_y:
        by_y = constants[3] * (above - below)
    return i, j, u, v, below + v * (above - below), by_x, by_y


@kernel()
def sway(first, last, points, sheet, constants, out):
    """Writes the rows ``first`` to ``last`` of out [N, 3]: points at rest, moved by the sheet
    [rows, columns, 2]."""
    for n in range(first, last):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        soft, _, _, _ = softness(x, y, z, constants)
        if soft != _ZERO:
            dx, dy = offset(x, y, sheet, constants)
            x += soft * dx
            y += soft * dy
        out[n, 0], out[n, 1], out[n, 2] = x, y, z


@kernel()
def sway_backward(first, last, points, sheet, constants, grad, out):
    """Writes the rows ``first`` to ``last`` of out [N, 3]: the gradient by points for grad [N, 3]
    of the result."""
    for n in range(first, last):
        gx, gy, gz = grad[n, 0], grad[n, 1], grad[n, 2]
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        soft, sx, sy, sz = softness(x, y, z, constants)
        if soft != _ZERO:
            _, _, _, _, along, by_x, by_y = slopes(x, y, gx, gy, sheet, constants)
            gx += along * sx + soft * by_x
            gy += along * sy + soft * by_y
            gz += along * sz
        out[n, 0], out[n, 1], out[n, 2] = gx, gy, gz
