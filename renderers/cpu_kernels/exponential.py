"""2^x of vectors in plain float32 arithmetic, without a vector library."""

# pyright: basic

from __future__ import annotations

from likeness.ops.compilation import AS_WRITTEN, inlined
from likeness.ops.simd import broadcast, muladd, times_power_of_two
from likeness.renderers.cpu_kernels.layout import F

# Minimax polynomial of 2^f on [-1/2, 1/2] with the value 1 at 0: relative error 9e-8, 1.7e-7 in
# float32.
_P1, _P2, _P3, _P4, _P5 = (
    F(0.69314694),
    F(0.24022232),
    F(0.055507794),
    F(0.0096719991),
    F(0.0013254603),
)
_P0 = F(1)
_ROUNDING = F(1.5 * 2**23)  # added, it leaves the nearest whole number in the lowest bits


@inlined(AS_WRITTEN)
def exp2(x):
    """2^x for -126 < x < 127, with a relative error of 3e-7; meaningless (but harmless) beyond."""
    rounding = broadcast(_ROUNDING)
    whole = x + rounding
    f = x - (whole - rounding)
    power = muladd(broadcast(_P5), f, broadcast(_P4))
    power = muladd(power, f, broadcast(_P3))
    power = muladd(power, f, broadcast(_P2))
    power = muladd(power, f, broadcast(_P1))
    return times_power_of_two(muladd(power, f, broadcast(_P0)), whole)
