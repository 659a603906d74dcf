"""``likeness.ops.deform`` on a CPU in single precision: values and gradients of batches by kernels.

WIDTH Gaussians are at work at a time. A block holds their numbers side by side, one row of WIDTH
for each of a Gaussian's numbers.
"""

# pyright: basic

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.ops import harmonics
from likeness.ops.compilation import ANY_NUMBER, AS_WRITTEN, helper, inlined, kernel
from likeness.ops.simd import (
    WIDTH,
    broadcast,
    dot,
    larger,
    load,
    muladd,
    root,
    smaller,
    store,
    where,
)
from likeness.ops.threads import run_rows, run_shares, share
from likeness.scene.cloud import GaussianCloud
from likeness.scene.lattice import COLUMNS, FACE_EDGE, FACE_M, FACE_RADII_M, HIGH_M, LOW_M, ROWS

_ZERO, _ONE = np.float32(0), np.float32(1)


class Canonical(NamedTuple):
    """R = 1 cloud for all B states, or one for each. sh: [R, N, 3 K]; what stays as it is, is
    empty (N of 0)."""

    means: np.ndarray  # [R, N, 3]
    quats: np.ndarray  # [R, N, 4]
    sh: np.ndarray  # [R, N, 3 K]
    weights: np.ndarray  # [N, 1], of the head


class Motion(NamedTuple):
    """How B states move it. What does not is empty (B of 0)."""

    displacement: np.ndarray  # [B, N, 3]
    lattice: np.ndarray  # [B, ROWS, COLUMNS, 2]
    constants: np.ndarray  # as ``lattice_constants`` has them
    frames: np.ndarray  # [B, 2, 16] of head and body: rotation by rows, translation, quaternion
    rotations: np.ndarray  # [B, K - 1, K - 1] of the harmonics


class Deformed(NamedTuple):
    """Results, or gradients by them. [B, N, 3], [B, N, 4], [B, N, 3 K] or empty."""

    means: np.ndarray
    quats: np.ndarray
    sh: np.ndarray


class Gradients(NamedTuple):
    """Written for each Gaussian, summed up over the states of a shared cloud, and added to for what
    all Gaussians share."""

    means: np.ndarray  # [R, N, 3]
    quats: np.ndarray  # [R, N, 4]
    sh: np.ndarray  # [R, N, 3 K]
    weights: np.ndarray  # [1, N, 1]
    displacement: np.ndarray  # [B, N, 3]; N of 0: not wanted
    lattice: np.ndarray  # [B, ROWS, COLUMNS, 2]
    frames: np.ndarray  # [B, 32 * WIDTH], to be summed up over the WIDTH
    rotations: np.ndarray  # [B, (K - 1)² * WIDTH], likewise; [B, 0]: not wanted


def deform(
    cloud: GaussianCloud,
    displacement: Tensor | None,
    secondary_motion: Tensor | None,
    T_head: Tensor | None,
    T_body: Tensor | None,
    head_weights: Tensor | None,
) -> GaussianCloud:
    """See ``likeness.ops.deform``."""
    count, coefficients = cloud.sh.shape[-3:-1]
    moving = displacement, secondary_motion, T_head, T_body
    # NumPy's: PyTorch's takes as long as a kernel
    batch = np.broadcast_shapes(*(t.shape[:-2] for t in (cloud.means, *moving) if t is not None))
    size = math.prod(batch)

    def flat(tensor: Tensor, dims: int = 2) -> Tensor:
        own = tensor.shape[-dims:]
        return tensor.expand(*batch, *own).reshape(size, *own)

    def of_cloud(tensor: Tensor, dims: int = 2) -> Tensor:
        return flat(tensor, dims) if cloud.batch_shape else tensor[None]

    rotations = None
    if coefficients > 1 and T_body is not None and head_weights is not None:
        degree = round(coefficients**0.5) - 1
        rotations = flat(harmonics.rotation_matrices(T_body[..., :3, :3], degree)[..., 1:, 1:])
    poses = [(torch.eye(4) if T is None else T).expand(*batch, 4, 4) for T in (T_head, T_body)]
    means, quats, sh = _Deform.apply(
        of_cloud(cloud.means),
        of_cloud(cloud.quats),
        None if rotations is None else of_cloud(cloud.sh, 3).flatten(2),
        cloud.means.new_ones(count) if head_weights is None else head_weights,
        None if displacement is None else flat(displacement),
        None if secondary_motion is None else flat(secondary_motion),
        flat(torch.stack(poses, -3), 3),
        rotations,
    )
    own_sh = *batch, count, coefficients, 3
    return GaussianCloud(
        means.view(*batch, count, 3),
        quats.view(*batch, count, 4),
        cloud.scales.expand(*batch, count, 3),
        cloud.opacities.expand(*batch, count),
        cloud.sh.expand(*own_sh) if sh is None else sh.view(own_sh),
    )


class _Deform(torch.autograd.Function):
    """Gaussians are shared out to threads, each in all states."""

    @staticmethod
    def forward(ctx, means, quats, sh, weights, displacement, lattice, transforms, rotations):
        given: list[Any] = [
            None if t is None else t.detach().contiguous()
            for t in (means, quats, sh, weights, displacement, lattice, transforms, rotations)
        ]
        means, quats, sh, weights, displacement, lattice, transforms, rotations = given
        batch, count = len(transforms), means.shape[1]
        out = Deformed(
            np.empty((batch, count, 3), np.float32),
            np.empty((batch, count, 4), np.float32),
            np.empty((0, 0, 0) if sh is None else (batch, *sh.shape[1:]), np.float32),
        )
        canonical = Canonical(means.numpy(), quats.numpy(), _array(sh, 3), weights.numpy()[:, None])
        motion = motion_of(displacement, lattice, transforms, rotations)
        run_rows(lambda first, last: deform_rows(first, last, canonical, motion, out), count)
        ctx.save_for_backward(*given)
        ctx.arrays = canonical, motion
        return (
            torch.from_numpy(out.means),
            torch.from_numpy(out.quats),
            None if sh is None else torch.from_numpy(out.sh),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream):
        means, quats, sh, weights, displacement, lattice, transforms, rotations = ctx.saved_tensors
        canonical, motion = ctx.arrays
        batch, count = len(transforms), means.shape[1]
        by = Deformed(*(_array(t, 3) for t in upstream))
        shares = torch.get_num_threads()
        own = [
            np.empty(shape, np.float32)
            for shape in (
                canonical.means.shape,
                canonical.quats.shape,
                canonical.sh.shape,
                (1, count, 1),
                (batch, count if ctx.needs_input_grad[4] else 0, 3),
            )
        ]
        shared = [
            np.zeros((shares, *shape), np.float32)
            for shape in (
                motion.lattice.shape,
                (batch, 32 * WIDTH),
                (batch, motion.rotations[0].size * WIDTH if ctx.needs_input_grad[7] else 0),
            )
        ]
        run_shares(
            lambda t: deform_rows_backward(
                *share(count, t, shares),
                canonical,
                motion,
                by,
                Gradients(*own, *(array[t] for array in shared)),
            ),
            shares,
        )
        g_means, g_quats, g_sh, g_weights, g_displacement = (torch.from_numpy(a) for a in own)
        g_lattice, *by_lane = (array.sum(0) for array in shared)
        g_frames, g_rotations = (array.reshape(batch, -1, WIDTH).sum(2) for array in by_lane)
        return (
            g_means,
            g_quats,
            None if sh is None else g_sh,
            g_weights[0, :, 0],
            g_displacement if ctx.needs_input_grad[4] else None,
            None if lattice is None else torch.from_numpy(g_lattice).flatten(1, 2),
            torch.from_numpy(frames_backward(transforms.numpy(), g_frames))
            if ctx.needs_input_grad[6]
            else None,
            torch.from_numpy(g_rotations).view_as(rotations) if ctx.needs_input_grad[7] else None,
        )


def motion_of(
    displacement: Tensor | None,
    lattice: Tensor | None,
    transforms: Tensor,
    rotations: Tensor | None,
) -> Motion:
    """displacement: [B, N, 3]. lattice: [B, NUM_POINTS, 2]. transforms: [B, 2, 4, 4] of head and
    body. rotations: [B, K - 1, K - 1] of the harmonics. All contiguous."""
    return Motion(
        _array(displacement, 3),
        _array(lattice, 3).reshape(-1, ROWS, COLUMNS, 2),
        lattice_constants(),
        frames_of(transforms.numpy()),
        _array(rotations, 3),
    )


def _array(tensor: Tensor | None, dims: int) -> np.ndarray:
    if tensor is None:
        return np.empty((0,) * dims, np.float32)
    return tensor.contiguous().numpy()


@functools.lru_cache
def lattice_constants() -> np.ndarray:
    """Where the lattice starts [2], cells per metre [2], the face's centre [3], one over its radii
    [3], and over its edge."""
    cells = [(n - 1) / (high - low) for n, low, high in zip((COLUMNS, ROWS), LOW_M, HIGH_M)]
    inverse = [1 / radius for radius in FACE_RADII_M]
    return np.array([*LOW_M, *cells, *FACE_M, *inverse, 1 / FACE_EDGE], np.float32)


# Transforms as frames

# Of a rotation R, the rows k of QUATERNION @ vec(R) + e_k are each the quaternion times 4 q_k: the
# one with the largest own entry is the best conditioned.
_QUATERNION = np.zeros((4, 4, 9), np.float32)
for _k, _signs in enumerate(((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))):
    _QUATERNION[_k, _k, [0, 4, 8]] = _signs
for _i, _j, _a, _b, _sign in (
    (0, 1, 7, 5, -1),
    (0, 2, 2, 6, -1),
    (0, 3, 3, 1, -1),
    (1, 2, 3, 1, 1),
    (1, 3, 2, 6, 1),
    (2, 3, 7, 5, 1),
):
    _QUATERNION[[_i, _j], [_j, _i], _a] = 1
    _QUATERNION[[_i, _j], [_j, _i], _b] = _sign


@helper(ANY_NUMBER)
def _quaternion_row(rotation, out):
    """Writes the best conditioned row [4]; returns its number, and the factor that makes it the
    unit quaternion with w >= 0."""
    best, largest = 0, np.float32(-1)
    for k in range(4):
        own = _ONE
        for j in range(0, 9, 4):
            own += _QUATERNION[k, k, j] * rotation[j]
        if own > largest:
            best, largest = k, own
    square = _ZERO
    for i in range(4):
        value = _ONE if i == best else _ZERO
        for j in range(9):
            value += _QUATERNION[best, i, j] * rotation[j]
        out[i] = value
        square += value * value
    factor = _ONE / math.sqrt(square)
    return best, -factor if out[0] < _ZERO else factor


@kernel(ANY_NUMBER)
def _write_frames(transforms, frames):
    row = np.empty(4, np.float32)
    for n in range(frames.shape[0]):
        for i in range(3):
            for j in range(3):
                frames[n, 3 * i + j] = transforms[n, i, j]
            frames[n, 9 + i] = transforms[n, i, 3]
        _, factor = _quaternion_row(frames[n], row)
        for i in range(4):
            frames[n, 12 + i] = factor * row[i]


@kernel(ANY_NUMBER)
def _write_frames_backward(transforms, g_frames, g_transforms):
    row, rotation = np.empty(4, np.float32), np.empty(9, np.float32)
    for n in range(g_frames.shape[0]):
        g = g_frames[n]
        for i in range(3):
            for j in range(3):
                rotation[3 * i + j] = transforms[n, i, j]
            g_transforms[n, i, 3] = g[9 + i]
        best, factor = _quaternion_row(rotation, row)
        along = _ZERO
        for i in range(4):
            row[i] *= factor
            along += row[i] * g[12 + i]
        for j in range(9):
            total = g[j]
            for i in range(4):
                total += factor * (g[12 + i] - along * row[i]) * _QUATERNION[best, i, j]
            g_transforms[n, j // 3, j % 3] = total


def frames_of(transforms: np.ndarray) -> np.ndarray:
    """Transforms [*b, 4, 4] as the kernels read them, [*b, 16]."""
    frames = np.empty((*transforms.shape[:-2], 16), np.float32)
    _write_frames(transforms.reshape(-1, 4, 4), frames.reshape(-1, 16))
    return frames


def frames_backward(transforms: np.ndarray, g_frames: np.ndarray) -> np.ndarray:
    """The gradient [*b, 4, 4] of ``frames_of`` from that of the frames [*b, 16]."""
    gradient = np.zeros(transforms.shape, np.float32)
    _write_frames_backward(
        transforms.reshape(-1, 4, 4), g_frames.reshape(-1, 16), gradient.reshape(-1, 4, 4)
    )
    return gradient


# Blocks of WIDTH Gaussians


@helper(ANY_NUMBER)
def _block(rows):
    return np.zeros(rows * WIDTH, np.float32)


@inlined(ANY_NUMBER)
def _take(table, columns, first, count, block, row):
    """Copies ``count`` rows of a table [N, columns] to a block, from its row ``row`` on."""
    for k in range(count):
        for column in range(columns):
            block[(row + column) * WIDTH + k] = table[first + k, column]


@inlined(ANY_NUMBER)
def _give(block, row, columns, first, count, table):
    """The reverse of ``_take``."""
    for k in range(count):
        for column in range(columns):
            table[first + k, column] = block[(row + column) * WIDTH + k]


@inlined(ANY_NUMBER)
def _collect(block, columns, first, count, table, more):
    """``_give``, or added to what is there (``more``)."""
    if not more:
        _give(block, 0, columns, first, count, table)
        return
    for k in range(count):
        for column in range(columns):
            table[first + k, column] += block[column * WIDTH + k]


@inlined(AS_WRITTEN)
def _four(block, row):
    row *= WIDTH
    return (
        load(block, row),
        load(block, row + WIDTH),
        load(block, row + 2 * WIDTH),
        load(block, row + 3 * WIDTH),
    )


@inlined(AS_WRITTEN)
def _add(block, row, value):
    store(block, row * WIDTH, load(block, row * WIDTH) + value)


@inlined(AS_WRITTEN)
def _product(aw, ax, ay, az, bw, bx, by, bz):
    """The Hamilton product of two quaternions."""
    return (
        muladd(aw, bw, -dot(ax, ay, az, bx, by, bz)),
        muladd(ax, bw, dot(aw, ay, -az, bx, bz, by)),
        muladd(ay, bw, dot(aw, az, -ax, by, bx, bz)),
        muladd(az, bw, dot(aw, ax, -ay, bz, by, bx)),
    )


# Secondary motion


@helper(AS_WRITTEN)
def _soften(points, constants, soft):
    """Writes soft [4]: how far points [3] follow the lattice, from 0 to 1, and its gradient."""
    ix, iy, iz = broadcast(constants[7]), broadcast(constants[8]), broadcast(constants[9])
    u = (load(points, 0) - broadcast(constants[4])) * ix
    v = (load(points, WIDTH) - broadcast(constants[5])) * iy
    w = (load(points, 2 * WIDTH) - broadcast(constants[6])) * iz
    zero, one, steepness = broadcast(_ZERO), broadcast(_ONE), broadcast(constants[10])
    distance = root(dot(u, v, w, u, v, w))
    value = (distance - one) * steepness
    slope = where((value > zero) & (value < one), steepness / distance, zero)
    store(soft, 0, smaller(larger(value, zero), one))
    store(soft, WIDTH, slope * u * ix)
    store(soft, 2 * WIDTH, slope * v * iy)
    store(soft, 3 * WIDTH, slope * w * iz)


@inlined(ANY_NUMBER)
def _cell(value, low, per_metre, points):
    """The control point below a coordinate, the weight of the next one, and whether it moves with
    the value. What is not a number is taken for the first point."""
    at, last = (value - low) * per_metre, np.float32(points - 1)
    inside = at > _ZERO and at < last
    if not at > _ZERO:
        at = _ZERO
    if at > last:
        at = last
    cell = min(int(at), points - 2)
    return cell, at - np.float32(cell), inside


@inlined(ANY_NUMBER)
def _corner_weights(u, v):
    """Of the control points below and beside (0, 0), (0, 1), (1, 0), (1, 1), as (row, column)."""
    w11 = u * v
    w10, w01 = v - w11, u - w11
    return _ONE - u - w10, w01, w10, w11


@helper(ANY_NUMBER)
def _follow_lattice(count, lattice, constants, points, soft, moved):
    """Writes the moved x and y [2] of points."""
    for k in range(count):
        x, y, s = points[k], points[WIDTH + k], soft[k]
        if s != _ZERO:
            j, u, _ = _cell(x, constants[0], constants[2], lattice.shape[1])
            i, v, _ = _cell(y, constants[1], constants[3], lattice.shape[0])
            low, high = lattice[i], lattice[i + 1]
            a, b, c, d = _corner_weights(u, v)
            x += s * (a * low[j, 0] + b * low[j + 1, 0] + c * high[j, 0] + d * high[j + 1, 0])
            y += s * (a * low[j, 1] + b * low[j + 1, 1] + c * high[j, 1] + d * high[j + 1, 1])
        moved[k], moved[WIDTH + k] = x, y


@helper(ANY_NUMBER)
def _follow_lattice_backward(count, lattice, constants, points, soft, g, g_lattice):
    """From the gradients g [3] by moved points to those by ``points``, in place; adds to
    ``g_lattice``."""
    for k in range(count):
        s, gx, gy = soft[k], g[k], g[WIDTH + k]
        if s == _ZERO:
            continue
        j, u, moves_x = _cell(points[k], constants[0], constants[2], lattice.shape[1])
        i, v, moves_y = _cell(points[WIDTH + k], constants[1], constants[3], lattice.shape[0])
        low, high = lattice[i], lattice[i + 1]
        # along the gradient
        a = gx * low[j, 0] + gy * low[j, 1]
        b = gx * low[j + 1, 0] + gy * low[j + 1, 1]
        c = gx * high[j, 0] + gy * high[j, 1]
        d = gx * high[j + 1, 0] + gy * high[j + 1, 1]
        below, above = a + u * (b - a), c + u * (d - c)
        along = below + v * (above - below)
        g[k] += along * soft[WIDTH + k]
        g[WIDTH + k] += along * soft[2 * WIDTH + k]
        g[2 * WIDTH + k] += along * soft[3 * WIDTH + k]
        if moves_x:
            g[k] += s * constants[2] * ((_ONE - v) * (b - a) + v * (d - c))
        if moves_y:
            g[WIDTH + k] += s * constants[3] * (above - below)
        gx, gy = s * gx, s * gy
        a, b, c, d = _corner_weights(u, v)
        low, high = g_lattice[i], g_lattice[i + 1]
        low[j, 0] += a * gx
        low[j, 1] += a * gy
        low[j + 1, 0] += b * gx
        low[j + 1, 1] += b * gy
        high[j, 0] += c * gx
        high[j, 1] += c * gy
        high[j + 1, 0] += d * gx
        high[j + 1, 1] += d * gy


# Two frames


@inlined(AS_WRITTEN)
def _between(frames, w):
    """The blended quaternion of head and body, normalised, and one over its length before."""
    head, body = frames[0], frames[1]
    qw = muladd(w, broadcast(head[12] - body[12]), broadcast(body[12]))
    qx = muladd(w, broadcast(head[13] - body[13]), broadcast(body[13]))
    qy = muladd(w, broadcast(head[14] - body[14]), broadcast(body[14]))
    qz = muladd(w, broadcast(head[15] - body[15]), broadcast(body[15]))
    inverse = broadcast(_ONE) / root(muladd(qw, qw, dot(qx, qy, qz, qx, qy, qz)))
    return qw * inverse, qx * inverse, qy * inverse, qz * inverse, inverse


@inlined(AS_WRITTEN)
def _along(matrix, a, b, c, x, y, z):
    """a x + b y + c z of entries of a matrix."""
    return dot(broadcast(matrix[a]), broadcast(matrix[b]), broadcast(matrix[c]), x, y, z)


@helper(AS_WRITTEN)
def _skin(frames, w, points, quats, out):
    """Writes means [3] and quaternions [4] between head and body."""
    head, body = frames[0], frames[1]
    x, y, z = load(points, 0), load(points, WIDTH), load(points, 2 * WIDTH)
    weight = load(w, 0)
    for i in range(3):
        a = _along(head, 3 * i, 3 * i + 1, 3 * i + 2, x, y, z) + broadcast(head[9 + i])
        b = _along(body, 3 * i, 3 * i + 1, 3 * i + 2, x, y, z) + broadcast(body[9 + i])
        store(out, i * WIDTH, muladd(weight, a - b, b))
    qw, qx, qy, qz, _ = _between(frames, weight)
    rw, rx, ry, rz = _four(quats, 0)
    rw, rx, ry, rz = _product(qw, qx, qy, qz, rw, rx, ry, rz)
    store(out, 3 * WIDTH, rw)
    store(out, 4 * WIDTH, rx)
    store(out, 5 * WIDTH, ry)
    store(out, 6 * WIDTH, rz)


@helper(AS_WRITTEN)
def _skin_backward(frames, w, points, quats, by, g, g_quats, g_weight, g_frames):
    """From gradients ``by`` [7] of means and quaternions: writes those by points to g [3], by
    quaternions [4] and by weights; adds those by frames to g_frames [32]."""
    head, body, weight = frames[0], frames[1], load(w, 0)
    x, y, z = load(points, 0), load(points, WIDTH), load(points, 2 * WIDTH)
    gx, gy, gz = load(by, 0), load(by, WIDTH), load(by, 2 * WIDTH)
    v = broadcast(_ONE) - weight
    total = broadcast(_ZERO)
    for i in range(3):
        g_mean = load(by, i * WIDTH)
        apart = dot(
            broadcast(head[3 * i] - body[3 * i]),
            broadcast(head[3 * i + 1] - body[3 * i + 1]),
            broadcast(head[3 * i + 2] - body[3 * i + 2]),
            x,
            y,
            z,
        )
        total = muladd(g_mean, apart + broadcast(head[9 + i] - body[9 + i]), total)
        own = _along(head, i, 3 + i, 6 + i, gx, gy, gz)
        other = _along(body, i, 3 + i, 6 + i, gx, gy, gz)
        store(g, i * WIDTH, muladd(weight, own - other, other))
        for frame in range(2):
            row, part = 16 * frame, (weight if frame == 0 else v) * g_mean
            _add(g_frames, row + 3 * i, part * x)
            _add(g_frames, row + 3 * i + 1, part * y)
            _add(g_frames, row + 3 * i + 2, part * z)
            _add(g_frames, row + 9 + i, part)
    qw, qx, qy, qz, inverse = _between(frames, weight)
    gw, gx, gy, gz = _four(by, 3)
    rw, rx, ry, rz = _product(qw, -qx, -qy, -qz, gw, gx, gy, gz)
    store(g_quats, 0, rw)
    store(g_quats, WIDTH, rx)
    store(g_quats, 2 * WIDTH, ry)
    store(g_quats, 3 * WIDTH, rz)
    rw, rx, ry, rz = _four(quats, 0)
    pw, px, py, pz = _product(gw, gx, gy, gz, rw, -rx, -ry, -rz)
    along = muladd(pw, qw, dot(px, py, pz, qx, qy, qz))
    pw, px = inverse * (pw - along * qw), inverse * (px - along * qx)
    py, pz = inverse * (py - along * qy), inverse * (pz - along * qz)
    total = muladd(pw, broadcast(head[12] - body[12]), total)
    total = muladd(px, broadcast(head[13] - body[13]), total)
    total = muladd(py, broadcast(head[14] - body[14]), total)
    store(g_weight, 0, muladd(pz, broadcast(head[15] - body[15]), total))
    for frame in range(2):
        row, part = 16 * frame + 12, weight if frame == 0 else v
        _add(g_frames, row, part * pw)
        _add(g_frames, row + 1, part * px)
        _add(g_frames, row + 2, part * py)
        _add(g_frames, row + 3, part * pz)


@inlined(AS_WRITTEN)
def _rotated(rotation, k, by_columns, sh, start, end, channel):
    """Coefficient k of a channel of harmonics of one degree, from start to end, rotated (or
    rotated back, ``by_columns``)."""
    total = broadcast(_ZERO)
    for j in range(start, end):
        entry = rotation[j - 1, k - 1] if by_columns else rotation[k - 1, j - 1]
        total = muladd(broadcast(entry), load(sh, (3 * j + channel) * WIDTH), total)
    return total


@helper(AS_WRITTEN)
def _blend_harmonics(rotation, w, sh, out):
    """Writes harmonics [3 K]: the head's share as they are, the body's rotated."""
    weight, start, end = load(w, 0), 1, 4
    for channel in range(3):
        store(out, channel * WIDTH, load(sh, channel * WIDTH))
    while start <= rotation.shape[0]:
        for k in range(start, end):
            for channel in range(3):
                turned = _rotated(rotation, k, False, sh, start, end, channel)
                row = (3 * k + channel) * WIDTH
                store(out, row, muladd(weight, load(sh, row) - turned, turned))
        start, end = end, 2 * end - start + 2


@helper(AS_WRITTEN)
def _blend_harmonics_backward(rotation, w, sh, by, g_sh, g_weight, g_rotation):
    """Writes the gradients by harmonics [3 K]; adds those by weights and by the rotation (where
    this is not empty)."""
    weight, start, end = load(w, 0), 1, 4
    v, total = broadcast(_ONE) - weight, load(g_weight, 0)
    for channel in range(3):
        store(g_sh, channel * WIDTH, load(by, channel * WIDTH))
    while start <= rotation.shape[0]:
        for k in range(start, end):
            for channel in range(3):
                row = (3 * k + channel) * WIDTH
                turned = _rotated(rotation, k, False, sh, start, end, channel)
                total = muladd(load(by, row), load(sh, row) - turned, total)
                back = _rotated(rotation, k, True, by, start, end, channel)
                store(g_sh, row, muladd(weight, load(by, row) - back, back))
        if g_rotation.shape[0] > 0:
            for k in range(start, end):
                for j in range(start, end):
                    product = dot(
                        load(by, 3 * k * WIDTH),
                        load(by, (3 * k + 1) * WIDTH),
                        load(by, (3 * k + 2) * WIDTH),
                        load(sh, 3 * j * WIDTH),
                        load(sh, (3 * j + 1) * WIDTH),
                        load(sh, (3 * j + 2) * WIDTH),
                    )
                    _add(g_rotation, (k - 1) * rotation.shape[0] + j - 1, v * product)
        start, end = end, 2 * end - start + 2
    store(g_weight, 0, total)


# All of it


@inlined(AS_WRITTEN)
def _displace(motion, b, start, count, points, change):
    """Adds the displacement to points [3]."""
    if motion.displacement.shape[0] > 0:
        _take(motion.displacement[b], 3, start, count, change, 0)
        for axis in range(3):
            _add(points, axis, load(change, axis * WIDTH))


@kernel(AS_WRITTEN)
def deform_rows(first, last, canonical, motion, out):
    """Writes the Gaussians ``first`` to ``last`` of ``out`` (Deformed), which may be the canonical
    cloud itself where B is 1."""
    columns = canonical.sh.shape[2]
    points, change, soft, result = _block(3), _block(3), _block(4), _block(7)
    weights, quats, sh, result_sh = _block(1), _block(4), _block(columns), _block(columns)
    for start in range(first, last, WIDTH):
        count = min(WIDTH, last - start)
        _take(canonical.weights, 1, start, count, weights, 0)
        for b in range(motion.frames.shape[0]):
            own = min(b, canonical.means.shape[0] - 1)
            _take(canonical.means[own], 3, start, count, points, 0)
            if own == b:
                _take(canonical.quats[own], 4, start, count, quats, 0)
            _displace(motion, b, start, count, points, change)
            if motion.lattice.shape[0] > 0:
                _soften(points, motion.constants, soft)
                _follow_lattice(count, motion.lattice[b], motion.constants, points, soft, points)
            _skin(motion.frames[b], weights, points, quats, result)
            _give(result, 0, 3, start, count, out.means[b])
            _give(result, 3, 4, start, count, out.quats[b])
            if columns > 0:
                if own == b:
                    _take(canonical.sh[own], columns, start, count, sh, 0)
                _blend_harmonics(motion.rotations[b], weights, sh, result_sh)
                _give(result_sh, 0, columns, start, count, out.sh[b])


@kernel(AS_WRITTEN)
def deform_rows_backward(first, last, canonical, motion, by, gradients):
    """The Gradients of the Gaussians ``first`` to ``last`` from those ``by`` results (Deformed)."""
    columns = canonical.sh.shape[2]
    points, change, soft, moved = _block(3), _block(3), _block(4), _block(3)
    weights, quats, upstream = _block(1), _block(4), _block(7)
    g_points, g_quats, g_weight = _block(3), _block(4), _block(1)
    sh, by_sh, g_sh = _block(columns), _block(columns), _block(columns)
    for start in range(first, last, WIDTH):
        count = min(WIDTH, last - start)
        if count < WIDTH:
            upstream[:] = _ZERO  # what lies beyond adds nothing to what all share
            by_sh[:] = _ZERO
        _take(canonical.weights, 1, start, count, weights, 0)
        for b in range(motion.frames.shape[0]):
            own = min(b, canonical.means.shape[0] - 1)
            _take(canonical.means[own], 3, start, count, points, 0)
            if own == b:
                _take(canonical.quats[own], 4, start, count, quats, 0)
            _take(by.means[b], 3, start, count, upstream, 0)
            _take(by.quats[b], 4, start, count, upstream, 3)
            _displace(motion, b, start, count, points, change)
            moved[:] = points
            if motion.lattice.shape[0] > 0:
                _soften(points, motion.constants, soft)
                _follow_lattice(count, motion.lattice[b], motion.constants, points, soft, moved)
            to_skin = motion.frames[b], weights, moved, quats, upstream
            _skin_backward(*to_skin, g_points, g_quats, g_weight, gradients.frames[b])
            if motion.lattice.shape[0] > 0:
                at = motion.lattice[b], motion.constants, points, soft
                _follow_lattice_backward(count, *at, g_points, gradients.lattice[b])
            if columns > 0:
                if own == b:
                    _take(canonical.sh[own], columns, start, count, sh, 0)
                _take(by.sh[b], columns, start, count, by_sh, 0)
                to_blend = motion.rotations[b], weights, sh, by_sh
                _blend_harmonics_backward(*to_blend, g_sh, g_weight, gradients.rotations[b])
                _collect(g_sh, columns, start, count, gradients.sh[own], own < b)
            _collect(g_points, 3, start, count, gradients.means[own], own < b)
            _collect(g_quats, 4, start, count, gradients.quats[own], own < b)
            _collect(g_weight, 1, start, count, gradients.weights[0], b > 0)
            if gradients.displacement.shape[1] > 0:
                _give(g_points, 0, 3, start, count, gradients.displacement[b])
