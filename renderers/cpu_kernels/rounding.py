"""Whole numbers of float32 numbers, in a few instructions: ``math.floor`` and ``math.ceil`` are
calls of a library."""

# pyright: basic

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import ANY_NUMBER, inlined


@inlined(ANY_NUMBER)
def floor(x):
    """The largest whole number that is not above x, of less than 2^63 in size."""
    whole = np.int64(x)
    return whole - np.int64(np.float32(whole) > x)


@inlined(ANY_NUMBER)
def ceil(x):
    """The smallest whole number that is not below x, of less than 2^63 in size."""
    whole = np.int64(x)
    return whole + np.int64(np.float32(whole) < x)
