"""``likeness.ops.rig_changes`` on a CPU in single precision, one Gaussian at a time."""

# pyright: basic

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likeness.ops.compilation import ANY_NUMBER, helper, kernel
from likeness.ops.threads import run_rows
from likeness.scene.rig_binding import LARGEST_GROWTH, RigBinding

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_HALF, _THIRD, _QUARTER, _FIFTH = (np.float32(1 / k) for k in (2, 3, 4, 5))
_LIMIT = np.float32(LARGEST_GROWTH)


class Bound(NamedTuple):
    """What is bound to which vertices, and what changes there."""

    changes: np.ndarray  # [V, CHANGES]
    vertices: np.ndarray  # [N, 3] int64
    weights: np.ndarray  # [N, 3]


class Changed(torch.autograd.Function):
    """Quaternions [N, 4], scales [N, 3] and harmonics [N, K, 3], changed by [V, CHANGES]."""

    @staticmethod
    def forward(
        ctx: Any, quats: Tensor, scales: Tensor, sh: Tensor, changes: Tensor, rig: RigBinding
    ) -> tuple[Tensor, Tensor, Tensor]:
        bound = bound_of(changes, rig)
        given = [tensor.detach().contiguous() for tensor in (quats, scales)]
        results = [torch.empty_like(tensor) for tensor in given]
        lit, turns = sh.detach().clone(memory_format=torch.contiguous_format), quats.new_empty(0, 7)
        if any(ctx.needs_input_grad):
            turns = quats.new_empty(len(quats), 7)
        arrays = [tensor.numpy() for tensor in (*given, *results, lit, turns)]
        run_rows(lambda first, last: change_rows(first, last, bound, *arrays), len(quats), 1000)
        ctx.save_for_backward(turns)
        return results[0], results[1], lit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (turns,) = ctx.saved_tensors
        by_quats, by_scales, by_sh = upstream
        g_quats = torch.empty_like(by_quats, memory_format=torch.contiguous_format)
        arrays = turns.numpy(), by_quats.contiguous().numpy(), g_quats.numpy()
        run_rows(lambda first, last: turn_back_rows(first, last, *arrays), len(turns), 1000)
        return g_quats, by_scales * turns[:, 4:], by_sh, None, None


def bound_of(changes: Tensor, rig: RigBinding) -> Bound:
    """For the kernels: changes [V, CHANGES] of a rig's vertices, and what is bound to them."""
    tensors = changes, rig.vertices, rig.weights
    return Bound(*(tensor.detach().contiguous().numpy() for tensor in tensors))


@helper(ANY_NUMBER)
def _growth(c, a, b, d):
    across = c[6] * a * b + c[7] * a * d + c[8] * b * d
    along = c[3] * a * a + c[4] * b * b + c[5] * d * d + _TWO * across
    x = np.float32(0.125) * min(max(along, -_LIMIT), _LIMIT)
    # the series of exp(x) for |x| < 0.15, to the eighth power
    term = _ONE + x * _FIFTH
    term = _ONE + x * _QUARTER * term
    term = _ONE + x * _THIRD * term
    term = _ONE + x * _HALF * term
    term = _ONE + x * term
    term *= term
    term *= term
    return term * term


@helper(ANY_NUMBER)
def _cosine_and_sinc(square):
    """cos(h) and sin(h) / h of the square of h, a quarter of a rotation vector's: by their series
    up to half a turn."""
    if square > np.float32(2.5):
        half = np.float32(math.sqrt(square))
        return np.float32(math.cos(half)), np.float32(math.sin(half)) / half
    cosine, sinc = _ONE, _ONE
    for k in range(7, 0, -1):
        even = np.float32(2 * k)
        cosine = _ONE - cosine * square / (even * (even - _ONE))
        sinc = _ONE - sinc * square / (even * (even + _ONE))
    return cosine, sinc


@kernel()
def change_rows(first, last, bound, quats, scales, out_quats, out_scales, sh, turns):
    """Writes the Gaussians ``first`` to ``last`` of quats and scales, which may be the given ones,
    and adds to sh [N, K, 3]. turns: [N, 7] the rotations' quaternions and the growths are written
    to it; [0, 7]: not wanted."""
    c, q = np.empty(12, np.float32), np.empty(4, np.float32)
    for n in range(first, last):
        c[:] = _ZERO
        for corner in range(3):
            weight, row = bound.weights[n, corner], bound.changes[bound.vertices[n, corner]]
            for k in range(12):
                c[k] += weight * row[k]
        largest = _ZERO
        for k in range(12):
            largest = max(largest, abs(c[k]))
        if largest == _ZERO:  # hair, clothes, the back of the head
            for k in range(4):
                out_quats[n, k] = quats[n, k]
            for axis in range(3):
                out_scales[n, axis] = scales[n, axis]
            if turns.shape[0] > 0:
                turns[n, 0], turns[n, 1], turns[n, 2], turns[n, 3] = _ONE, _ZERO, _ZERO, _ZERO
                turns[n, 4], turns[n, 5], turns[n, 6] = _ONE, _ONE, _ONE
            continue
        inverse = _ZERO
        for k in range(4):
            q[k] = quats[n, k]
            inverse += q[k] * q[k]
        inverse = _ONE / np.float32(math.sqrt(max(inverse, np.float32(1e-24))))
        w, x, y, z = inverse * q[0], inverse * q[1], inverse * q[2], inverse * q[3]
        g0 = _growth(
            c, _ONE - _TWO * (y * y + z * z), _TWO * (x * y + w * z), _TWO * (x * z - w * y)
        )
        g1 = _growth(
            c, _TWO * (x * y - w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z + w * x)
        )
        g2 = _growth(
            c, _TWO * (x * z + w * y), _TWO * (y * z - w * x), _ONE - _TWO * (x * x + y * y)
        )
        out_scales[n, 0] = scales[n, 0] * g0
        out_scales[n, 1] = scales[n, 1] * g1
        out_scales[n, 2] = scales[n, 2] * g2
        square = c[0] * c[0] + c[1] * c[1] + c[2] * c[2]
        w, sinc = _cosine_and_sinc(_QUARTER * square)
        sinc *= _HALF
        x, y, z = sinc * c[0], sinc * c[1], sinc * c[2]
        out_quats[n, 0] = w * q[0] - x * q[1] - y * q[2] - z * q[3]
        out_quats[n, 1] = w * q[1] + x * q[0] + y * q[3] - z * q[2]
        out_quats[n, 2] = w * q[2] - x * q[3] + y * q[0] + z * q[1]
        out_quats[n, 3] = w * q[3] + x * q[2] - y * q[1] + z * q[0]
        for channel in range(3):
            sh[n, 0, channel] += c[9 + channel]
        if turns.shape[0] > 0:
            turns[n, 0], turns[n, 1], turns[n, 2], turns[n, 3] = w, x, y, z
            turns[n, 4], turns[n, 5], turns[n, 6] = g0, g1, g2


@kernel()
def turn_back_rows(first, last, turns, by, gradients):
    """Writes the gradients [N, 4] by quaternions before they were turned, from those after."""
    for n in range(first, last):
        w, x, y, z = turns[n, 0], -turns[n, 1], -turns[n, 2], -turns[n, 3]
        a, b, c, d = by[n, 0], by[n, 1], by[n, 2], by[n, 3]
        gradients[n, 0] = w * a - x * b - y * c - z * d
        gradients[n, 1] = w * b + x * a + y * d - z * c
        gradients[n, 2] = w * c - x * d + y * a + z * b
        gradients[n, 3] = w * d + x * c - y * b + z * a
