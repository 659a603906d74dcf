"""Adam's update (Kingma and Ba, 2015) in numba, in one sweep over values, their moments and their
gradient."""

from __future__ import annotations

import math

import numpy as np

from likeness.ops.compilation import helper, kernel

# A NaN must stay one. No approximate divisions or roots: updates are those of PyTorch but for
# roundings.
AS_PYTORCH = {"contract", "nsz"}


def numbers_of(
    step: int, rate: float, betas: tuple[float, float], epsilon: float, dtype
) -> np.ndarray:
    """[6] what ``update`` reads at a step (from 1 on); computed in double precision, as PyTorch
    does."""
    beta1, beta2 = betas
    # Complements as such: 1 - 0.999 in single precision is 5e-5 off.
    numbers = [
        1 - beta1,
        beta2,
        1 - beta2,
        rate / (1 - beta1**step),
        1 / math.sqrt(1 - beta2**step),
        epsilon,
    ]
    return np.array(numbers, dtype)


@helper(AS_PYTORCH)
def step(values, first, second, gradient, numbers):
    """What ``update`` does, for kernels."""
    change, square_keep, square_change = numbers[0], numbers[1], numbers[2]
    rate, root, epsilon = numbers[3], numbers[4], numbers[5]
    for i in range(values.shape[0]):
        g = gradient[i]
        m = first[i] + change * (g - first[i])
        v = square_keep * second[i] + square_change * g * g
        first[i] = m
        second[i] = v
        values[i] -= rate * m / (math.sqrt(v) * root + epsilon)


@kernel(AS_PYTORCH)
def update(values, first, second, gradient, numbers):
    """One step on values, moments and gradient [M].

    numbers: [6] 1 - β1, β2, 1 - β2, the rate over the first bias correction, one over the root of
    the second, epsilon; all in the values' dtype.
    """
    step(values, first, second, gradient, numbers)


@kernel(AS_PYTORCH)
def update_rows(table, first, second, steps, rows, gradient, rate, beta1, beta2, epsilon):
    """One step on the rows [B] of a table [T, M], for their gradients [B, M]; steps: [T, 1], each
    row's own."""
    numbers = np.empty(6, table.dtype)
    for b in range(rows.shape[0]):
        row = rows[b]
        steps[row, 0] += 1
        count = float(steps[row, 0])
        numbers[0], numbers[1], numbers[2] = 1 - beta1, beta2, 1 - beta2
        numbers[3], numbers[4], numbers[5] = (
            rate / (1 - beta1**count),
            1 / math.sqrt(1 - beta2**count),
            epsilon,
        )
        step(table[row], first[row], second[row], gradient[b], numbers)
