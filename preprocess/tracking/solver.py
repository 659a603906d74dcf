"""The linear system of one Gauss-Newton step over all frames: block-banded in time, solved by
banded Cholesky."""

from __future__ import annotations

import numpy as np


def solve_in_time(
    blocks: np.ndarray, first: np.ndarray, second: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Solves a symmetric positive definite system whose unknowns are P numbers in each of T frames.

    blocks: [T, P, P] diagonal blocks. first: [T-1, P] couplings of a frame's unknowns with the same
    unknowns of the next frame; second: [T-2, Q] of its first Q unknowns with those of the next but
    one. right: [T, P]. Returns [T, P]. Linear in T: LAPACK's ``pbsv`` on a band of 2P + 1 rows, T *
    P**3 operations.
    """
    from scipy.linalg import solveh_banded

    num_frames, size = right.shape
    width = 2 if num_frames > 2 else num_frames - 1
    band = np.zeros((width * size + 1 if width else size, num_frames, size))
    for offset in range(size):
        band[offset, :, : size - offset] = np.diagonal(blocks, -offset, axis1=1, axis2=2)
    if num_frames > 1:
        band[size, :-1] = first
    if num_frames > 2:
        band[2 * size, :-2, : second.shape[1]] = second
    solution = solveh_banded(
        band.reshape(len(band), -1),
        right.ravel(),
        overwrite_ab=True,
        lower=True,
        check_finite=False,
    )
    return solution.reshape(num_frames, size)


def fix(
    blocks: np.ndarray, first: np.ndarray, second: np.ndarray, right: np.ndarray, fixed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same system with the unknowns marked in ``fixed`` [T, P] taken out: their solution
    becomes zero."""
    free = (~fixed).astype(blocks.dtype)
    blocks = blocks * free[:, :, None] * free[:, None, :]
    index = np.arange(blocks.shape[1])
    blocks[:, index, index] += fixed
    count = second.shape[1]
    return (
        blocks,
        first * free[:-1] * free[1:],
        second * free[:-2, :count] * free[2:, :count],
        right * free,
    )
