"""2^x in plain float32 arithmetic, so that loops that use it become vector instructions without a vector library."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from renderers.cpu_kernels.compiling import inlined
from renderers.cpu_kernels.layout import F

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)

# Minimax polynomial of 2^f on [-1/2, 1/2] with the value 1 at 0: relative error 9e-8, 1.7e-7 in float32.
_P1, _P2, _P3, _P4, _P5 = F(0.69314694), F(0.24022232), F(0.055507794), F(0.0096719991), F(0.0013254603)
_P0 = F(1)


@intrinsic
def nearest(typing_context, x):
    """The nearest whole number as float32."""

    def generate(context, builder, signature, arguments):
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [_FLOAT]), arguments)

    return types.float32(types.float32), generate


@intrinsic
def times_power_of_two(typing_context, mantissa, exponent):
    """mantissa 2^exponent for a whole exponent, by adding to the exponent's bits."""

    def generate(context, builder, signature, arguments):
        shift = builder.shl(builder.fptosi(arguments[1], _INT), ir.Constant(_INT, 23))
        return builder.bitcast(builder.add(builder.bitcast(arguments[0], _INT), shift), _FLOAT)

    return types.float32(types.float32, types.float32), generate


@intrinsic
def float_bits(typing_context, x):
    """The bits of a float32 as uint32; ordered like the numbers where these are positive."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _INT)

    return types.uint32(types.float32), generate


@inlined()
def exp2(x):
    """2^x for -126 < x < 127, with a relative error of 3e-7; meaningless (but harmless) beyond."""
    whole = nearest(x)
    f = x - whole
    return times_power_of_two(((((_P5 * f + _P4) * f + _P3) * f + _P2) * f + _P1) * f + _P0, whole)
