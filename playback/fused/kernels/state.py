"""What all Gaussians share, of one state: codes, frames and the rotation of harmonics, by one
launch.

Formulas and their order are those of ``likeness.ops.harmonics``,
``likeness.fitting.avatars.anchoring`` and ``likeness.fitting.avatars.linear``.
"""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from likeness.ops import harmonics
from likeness.playback.fused.kernels.rotations import angle_over_sine, quaternion

SAMPLES = 64
"""Directions at which harmonics are solved for, filled up to a power of two."""
HARMONICS = 16
"""Harmonics of the largest degree: a rotation of them is a matrix [16, 16]."""
FRAMES = 16
"""Numbers before it: the body's rotation (9, row by row), translation (3) and quaternion (4) in the
head frame."""

_SAMPLES, _HARMONICS, _FRAMES = tl.constexpr(SAMPLES), tl.constexpr(HARMONICS), tl.constexpr(FRAMES)
_C1 = tl.constexpr(harmonics.C1)
_C20, _C21, _C22, _C23, _C24 = (tl.constexpr(value) for value in harmonics.C2)
_C30, _C31, _C32, _C33, _C34, _C35, _C36 = (tl.constexpr(value) for value in harmonics.C3)


@triton.jit
def read_state(
    state,
    weights,
    biases,
    directions,
    solve,
    out,
    EXPRESSIONS: tl.constexpr,
    JOINTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEGREE: tl.constexpr,
):
    """What all Gaussians share, by one program.

    state: expression [E], joints [J, 4], T_world_head and T_world_body [4, 4], one after the other.
    weights, biases: the coder's layers, filled up with zeros to [LAYERS, WIDTH, WIDTH] and [LAYERS,
    WIDTH]. directions [3, SAMPLES] and solve [HARMONICS, SAMPLES]: of ``sh.rotation_samples``,
    filled up with zeros.
    out: codes [WIDTH] where LAYERS > 0, frames [FRAMES], the rotation of harmonics [HARMONICS,
        HARMONICS] where DEGREE > 0.
    """
    joints = state + EXPRESSIONS
    head = joints + 4 * JOINTS
    body = head + 16
    r00, r01, r02, t0 = _row(head, body, 0)
    r10, r11, r12, t1 = _row(head, body, 1)
    r20, r21, r22, t2 = _row(head, body, 2)
    qw, qx, qy, qz = quaternion(r00, r01, r02, r10, r11, r12, r20, r21, r22)

    if LAYERS > 0:
        _write_codes(
            state,
            weights,
            biases,
            out,
            qw,
            qx,
            qy,
            qz,
            t0,
            t1,
            t2,
            EXPRESSIONS,
            JOINTS,
            LAYERS,
            WIDTH,
        )

    frames = out + WIDTH
    tl.store(frames, r00)
    tl.store(frames + 1, r01)
    tl.store(frames + 2, r02)
    tl.store(frames + 3, r10)
    tl.store(frames + 4, r11)
    tl.store(frames + 5, r12)
    tl.store(frames + 6, r20)
    tl.store(frames + 7, r21)
    tl.store(frames + 8, r22)
    tl.store(frames + 9, t0)
    tl.store(frames + 10, t1)
    tl.store(frames + 11, t2)
    tl.store(frames + 12, qw)
    tl.store(frames + 13, qx)
    tl.store(frames + 14, qy)
    tl.store(frames + 15, qz)

    if DEGREE > 0:
        sample = tl.arange(0, _SAMPLES)
        a = tl.load(directions + sample)
        b = tl.load(directions + _SAMPLES + sample)
        c = tl.load(directions + 2 * _SAMPLES + sample)
        x = a * r00 + b * r10 + c * r20
        y = a * r01 + b * r11 + c * r21
        z = a * r02 + b * r12 + c * r22
        row = tl.arange(0, _HARMONICS)
        solved = tl.load(solve + row[:, None] * _SAMPLES + sample[None, :])
        column = frames + _FRAMES + row * _HARMONICS
        _solve_for(column + 1, solved, y * -_C1)
        _solve_for(column + 2, solved, z * _C1)
        _solve_for(column + 3, solved, x * -_C1)
        if DEGREE > 1:
            xx, yy, zz = x * x, y * y, z * z
            _solve_for(column + 4, solved, x * y * _C20)
            _solve_for(column + 5, solved, y * z * _C21)
            _solve_for(column + 6, solved, (2 * zz - xx - yy) * _C22)
            _solve_for(column + 7, solved, x * z * _C23)
            _solve_for(column + 8, solved, (xx - yy) * _C24)
            if DEGREE > 2:
                _solve_for(column + 9, solved, y * (3 * xx - yy) * _C30)
                _solve_for(column + 10, solved, x * y * z * _C31)
                _solve_for(column + 11, solved, y * (4 * zz - xx - yy) * _C32)
                _solve_for(column + 12, solved, z * (2 * zz - 3 * xx - 3 * yy) * _C33)
                _solve_for(column + 13, solved, x * (4 * zz - xx - yy) * _C34)
                _solve_for(column + 14, solved, z * (xx - yy) * _C35)
                _solve_for(column + 15, solved, x * (xx - 3 * yy) * _C36)


@triton.jit
def _write_codes(
    state,
    weights,
    biases,
    out,
    qw,
    qx,
    qy,
    qz,
    t0,
    t1,
    t2,
    EXPRESSIONS: tl.constexpr,
    JOINTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """What the coder makes of expression, joints and the body's pose: a quaternion and a
    translation."""
    joints = state + EXPRESSIONS
    lane = tl.arange(0, WIDTH)
    at = lane - EXPRESSIONS
    of_joints = (at >= 0) & (at < 3 * JOINTS)
    joint = joints + 4 * tl.where(of_joints, at // 3, 0)
    jw = tl.load(joint, mask=of_joints, other=1.0)
    jx = tl.load(joint + 1, mask=of_joints, other=0.0)
    jy = tl.load(joint + 2, mask=of_joints, other=0.0)
    jz = tl.load(joint + 3, mask=of_joints, other=0.0)
    axis = tl.where(of_joints, at % 3, 0)
    along = tl.where(axis == 0, jx, tl.where(axis == 1, jy, jz))
    pose = along * angle_over_sine(jw, jx, jy, jz) / 0.1
    at = at - 3 * JOINTS
    scale = angle_over_sine(qw, qx, qy, qz) / 0.1
    pose = tl.where(at == 0, qx * scale, pose)
    pose = tl.where(at == 1, qy * scale, pose)
    pose = tl.where(at == 2, qz * scale, pose)
    pose = tl.where(at == 3, t0 / 0.01, pose)
    pose = tl.where(at == 4, t1 / 0.01, pose)
    pose = tl.where(at == 5, t2 / 0.01, pose)
    bent = 5 * (2 * tl.sigmoid(2 * pose / 5) - 1)  # 5 tanh(pose / 5)
    expression = tl.load(state + lane, mask=lane < EXPRESSIONS, other=0.0)
    x = tl.where(lane < EXPRESSIONS, expression, tl.where(at < 6, bent, 0.0))

    for layer in tl.static_range(LAYERS):
        weight = tl.load(weights + layer * WIDTH * WIDTH + lane[:, None] * WIDTH + lane[None, :])
        x = tl.sum(weight * x[None, :], axis=1) + tl.load(biases + layer * WIDTH + lane)
        if layer < LAYERS - 1:
            x = tl.maximum(x, 0.0)
    tl.store(out + lane, x)


@triton.jit
def _row(head, body, i: tl.constexpr):
    """Row i of inv(T_world_head) T_world_body, [3] and [1]."""
    a = tl.load(head + i)
    b = tl.load(head + 4 + i)
    c = tl.load(head + 8 + i)
    r0 = a * tl.load(body) + b * tl.load(body + 4) + c * tl.load(body + 8)
    r1 = a * tl.load(body + 1) + b * tl.load(body + 5) + c * tl.load(body + 9)
    r2 = a * tl.load(body + 2) + b * tl.load(body + 6) + c * tl.load(body + 10)
    t = a * (tl.load(body + 3) - tl.load(head + 3))
    t += b * (tl.load(body + 7) - tl.load(head + 7))
    t += c * (tl.load(body + 11) - tl.load(head + 11))
    return r0, r1, r2, t


@triton.jit
def _solve_for(column, solved, values):
    """A column of the rotation: of the harmonic with these values at the rotated directions."""
    tl.store(column, tl.sum(solved * values[None, :], axis=1))
