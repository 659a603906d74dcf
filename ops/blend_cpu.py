"""Blends of per-Gaussian bases, in numba: float32 on the CPU. See ``likeness.ops.blend``."""

# pyright: basic

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import kernel

_COLUMNS = 4096  # of a block: its sums stay in the nearest cache


@kernel()
def blend(first, last, basis, codes, out):
    """Writes the rows ``first`` to ``last`` of ``out`` [N, f]: Σ_b codes[b] basis[n, b]. basis: [N,
    B, f]."""
    count, size = basis.shape[1], basis.shape[2]
    pairs = count // 4
    for n in range(first, last):
        table, row = basis[n], out[n]
        row[:] = np.float32(0)
        for k in range(pairs):
            a, b, c, d = table[4 * k], table[4 * k + 1], table[4 * k + 2], table[4 * k + 3]
            u, v, w, z = codes[4 * k], codes[4 * k + 1], codes[4 * k + 2], codes[4 * k + 3]
            for j in range(size):
                row[j] += u * a[j] + v * b[j] + w * c[j] + z * d[j]
        for k in range(4 * pairs, count):
            code, a = codes[k], table[k]
            for j in range(size):
                row[j] += code * a[j]


@kernel()
def blend_by_code(first, last, table, codes, used, out):
    """Writes the columns ``first`` to ``last`` of ``out`` [M]: Σ codes[b] table[b] over ``used`` b
    of table [B, M]."""
    pairs = used.shape[0] // 4
    for a in range(first, last, _COLUMNS):
        part = out[a : min(a + _COLUMNS, last)]
        size = part.shape[0]
        part[:] = np.float32(0)
        for k in range(pairs):
            b, c, d, e = used[4 * k], used[4 * k + 1], used[4 * k + 2], used[4 * k + 3]
            t, u, v, w = (
                table[b, a : a + size],
                table[c, a : a + size],
                table[d, a : a + size],
                table[e, a : a + size],
            )
            p, q, r, s = codes[b], codes[c], codes[d], codes[e]
            for j in range(size):
                part[j] += p * t[j] + q * u[j] + r * v[j] + s * w[j]
        for k in range(4 * pairs, used.shape[0]):
            t, p = table[used[k], a : a + size], codes[used[k]]
            for j in range(size):
                part[j] += p * t[j]
