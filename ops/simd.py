"""Vectors of WIDTH float32 for kernels: LLVM makes as many instructions of an operation as the
machine needs.

``a + b``, ``a - b``, ``a * b``, ``a / b``, ``-a``, ``abs(a)``, comparisons (which make masks),
``mask & mask`` and ``mask | mask`` work as on numbers. Nothing is reordered, and only ``muladd``
may fuse: equal expressions have equal bits in all kernels that are compiled ``AS_WRITTEN`` (else
numba adds the kernel's flags). All values are assumed finite where they matter.

A float64 is a vector of one for ``lanes``, ``broadcast``, ``load``, ``store``, ``muladd``,
``differ`` and the operators of numbers, so that a kernel of these alone can be tested in double
precision.
"""

# pyright: basic

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic as _intrinsic
from numba.extending import models, register_model

from likeness.ops.compilation import AS_WRITTEN, has_avx512, inlined


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's, which hands over the first argument by itself."""
    return _intrinsic(function)


WIDTH = 32
"""Four rows of a tile: two instructions of AVX-512, four of AVX2, side by side, so that neither
waits for the other."""

_FLOAT, _INT, _BIT = ir.FloatType(), ir.IntType(32), ir.IntType(1)
_FLOATS, _INTS, _BITS = (ir.VectorType(kind, WIDTH) for kind in (_FLOAT, _INT, _BIT))
_SIXTEEN = ir.VectorType(_FLOAT, 16)
_FLAGS = ("nnan", "ninf", "nsz", "arcp")


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(f"float32x{WIDTH}")


class _Mask(types.Type):
    def __init__(self) -> None:
        super().__init__(f"mask{WIDTH}")


vector, mask = _Vector(), _Mask()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _FLOATS)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _BITS)


def _define(function, result, arguments, generate) -> None:
    """Gives an operator a meaning; ``generate`` takes the builder and the values."""

    class Typing(ConcreteTemplate):
        key = function
        cases = [signature(result, *arguments)]

    infer_global(function)(Typing)  # pyright: ignore[reportOptionalCall]
    lower_builtin(function, *arguments)(
        lambda context, builder, signature, values: generate(builder, *values)
    )


def _compare(function, symbol: str) -> None:
    _define(
        function,
        mask,
        (vector, vector),
        lambda builder, a, b: builder.fcmp_ordered(symbol, a, b, flags=_FLAGS),
    )


def _call(builder, name: str, result, *values):
    function = ir.FunctionType(result, [value.type for value in values])
    callee = cgutils.get_or_insert_function(builder.module, function, name)
    return builder.call(callee, values, fastmath=_FLAGS)


_NAME = f"v{WIDTH}f32"
_define(
    operator.add, vector, (vector, vector), lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS)
)
_define(
    operator.sub, vector, (vector, vector), lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS)
)
_define(
    operator.mul, vector, (vector, vector), lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS)
)
_define(
    operator.truediv,
    vector,
    (vector, vector),
    lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS),
)
_define(operator.neg, vector, (vector,), lambda builder, a: builder.fneg(a, flags=_FLAGS))
_define(abs, vector, (vector,), lambda builder, a: _call(builder, f"llvm.fabs.{_NAME}", _FLOATS, a))
_define(operator.and_, mask, (mask, mask), lambda builder, a, b: builder.and_(a, b))
_define(operator.or_, mask, (mask, mask), lambda builder, a, b: builder.or_(a, b))
_compare(operator.lt, "<")
_compare(operator.le, "<=")
_compare(operator.gt, ">")
_compare(operator.ge, ">=")


def _vector_of(number):
    """The vector type for numbers of a type."""
    return number if number == types.float64 else vector


def _pointer(context, builder, signature, values, kind=_FLOATS):
    """Where a vector lies in the array and at the index that are the first two of the values."""
    if signature.args[0].dtype == types.float64:
        kind = ir.DoubleType()
    data = context.make_array(signature.args[0])(context, builder, values[0]).data
    index = context.cast(builder, values[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@intrinsic
def lanes(typing_context, array):
    """How many numbers of an array make a vector, known when a kernel is compiled."""
    count = 1 if array.dtype == types.float64 else WIDTH
    return types.intp(array), lambda context, builder, signature, values: context.get_constant(
        types.intp, count
    )


@intrinsic
def broadcast(typing_context, number):
    """The same number in every lane."""

    def generate(context, builder, signature, values):
        if number == types.float64:
            return values[0]
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, values[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * WIDTH))

    return _vector_of(number)(number), generate


@intrinsic
def load(typing_context, array, index):
    """As many numbers of a contiguous array as ``lanes`` says, from an index on; whole numbers of 8
    or 16 bits become float32."""
    whole = isinstance(array.dtype, types.Integer)

    def generate(context, builder, signature, values):
        if not whole:
            return builder.load(_pointer(context, builder, signature, values), align=4)
        bits = array.dtype.bitwidth
        kind = ir.VectorType(ir.IntType(bits), WIDTH)
        entries = builder.load(_pointer(context, builder, signature, values, kind), align=bits // 8)
        return builder.sitofp(builder.sext(entries, _INTS), _FLOATS)

    result = vector if whole else _vector_of(array.dtype)
    return result(array, index), generate


@intrinsic
def store(typing_context, array, index, value):
    """Writes a vector to a contiguous array, from an index on."""

    def generate(context, builder, signature, values):
        builder.store(values[2], _pointer(context, builder, signature, values), align=4)
        return context.get_dummy_value()

    return types.void(array, index, _vector_of(array.dtype)), generate


@intrinsic
def muladd(typing_context, a, b, c):
    """a b + c, rounded once where the machine can."""

    def generate(context, builder, signature, values):
        if a == types.float64:
            return _call(builder, "llvm.fmuladd.f64", values[0].type, *values)
        return _call(builder, f"llvm.fmuladd.{_NAME}", _FLOATS, *values)

    return _vector_of(a)(_vector_of(a), _vector_of(a), _vector_of(a)), generate


@intrinsic
def smaller(typing_context, a, b):
    """The smaller number of each lane."""

    def generate(context, builder, signature, values):
        return _call(builder, f"llvm.minnum.{_NAME}", _FLOATS, *values)

    return vector(vector, vector), generate


@intrinsic
def larger(typing_context, a, b):
    """The larger number of each lane."""

    def generate(context, builder, signature, values):
        return _call(builder, f"llvm.maxnum.{_NAME}", _FLOATS, *values)

    return vector(vector, vector), generate


@intrinsic
def root(typing_context, a):
    """The square root of each lane."""

    def generate(context, builder, signature, values):
        return _call(builder, f"llvm.sqrt.{_NAME}", _FLOATS, *values)

    return vector(vector), generate


@intrinsic
def reciprocal(typing_context, a):
    """One over each lane, to two units in the last place: with AVX-512 a guess and a step of
    Newton's, a fifth of the time of a division."""

    def generate(context, builder, signature, values):
        (whole,) = values
        one = ir.Constant(_FLOATS, [1.0] * WIDTH)
        if not has_avx512():
            return builder.fdiv(one, whole, flags=_FLAGS)
        kind = ir.FunctionType(_SIXTEEN, [_SIXTEEN, _SIXTEEN, ir.IntType(16)])
        guess = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rcp14.ps.512")
        nothing, all_lanes = ir.Constant(_SIXTEEN, ir.Undefined), ir.Constant(ir.IntType(16), -1)
        halves = [
            builder.call(
                guess,
                [_pick(builder, whole, whole, list(range(start, start + 16))), nothing, all_lanes],
            )
            for start in range(0, WIDTH, 16)
        ]
        estimate = _pick(builder, halves[0], halves[1], list(range(WIDTH)))
        error = _call(builder, f"llvm.fmuladd.{_NAME}", _FLOATS, builder.fneg(whole), estimate, one)
        return _call(builder, f"llvm.fmuladd.{_NAME}", _FLOATS, estimate, error, estimate)

    return vector(vector), generate


@intrinsic
def where(typing_context, condition, a, b):
    """a in the lanes where the mask is set, b in the others."""
    return vector(mask, vector, vector), lambda context, builder, signature, values: builder.select(
        *values
    )


@intrinsic
def without(typing_context, a, b):
    """The lanes of a mask that are not in another."""
    return mask(mask, mask), lambda context, builder, signature, values: builder.and_(
        values[0], builder.not_(values[1])
    )


@intrinsic
def any_lane(typing_context, condition):
    """Whether a mask is set in any lane."""

    def generate(context, builder, signature, values):
        function = ir.FunctionType(_BIT, [_BITS])
        name = f"llvm.vector.reduce.or.v{WIDTH}i1"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), values)

    return types.boolean(mask), generate


@intrinsic
def differ(typing_context, a, b):
    """Whether two vectors differ in any lane; what is not a number differs from all."""

    def generate(context, builder, signature, values):
        lanes_differ = builder.fcmp_unordered("!=", *values)
        if a == types.float64:
            return lanes_differ
        function = ir.FunctionType(_BIT, [_BITS])
        name = f"llvm.vector.reduce.or.v{WIDTH}i1"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, function, name), [lanes_differ]
        )

    return types.boolean(a, a), generate


@intrinsic
def times_power_of_two(typing_context, mantissa, exponent):
    """mantissa 2^n, by adding n to the exponent's bits: n is in the lowest bits of the second
    vector's."""

    def generate(context, builder, signature, values):
        bits, n = (builder.bitcast(value, _INTS) for value in values)
        return builder.bitcast(
            builder.add(bits, builder.shl(n, ir.Constant(_INTS, [23] * WIDTH))), _FLOATS
        )

    return vector(vector, vector), generate


def _pick(builder, a, b, lanes):
    """A vector of chosen lanes of two vectors, counted through."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _added(builder, a, b, first, second):
    """The sum of two choices of lanes of two vectors."""
    return builder.fadd(_pick(builder, a, b, first), _pick(builder, a, b, second), flags=_FLAGS)


@intrinsic
def add_lane_sums(typing_context, array, index, *vectors):
    """Adds the sums over the lanes of 16 vectors to the 16 numbers of a contiguous float32 array
    from an index on.

    A tree that halves the vectors and their lanes in turn: a third of the instructions of 16
        separate sums.
    """

    def generate(context, builder, signature, values):
        vectors = cgutils.unpack_tuple(builder, values[2], 16)
        chunks = range(0, WIDTH, 16)
        for index, whole in enumerate(vectors):
            parts = [
                _pick(builder, whole, whole, list(range(start, start + 16))) for start in chunks
            ]
            while len(parts) > 1:
                parts = [builder.fadd(a, b, flags=_FLAGS) for a, b in zip(parts[::2], parts[1::2])]
            vectors[index] = parts[0]
        for stage in range(4):
            if stage < 2:  # within each four lanes: even lanes of a, then of b; and the odd lanes
                even = [
                    four + source + lane
                    for four in range(0, 16, 4)
                    for source in (0, 16)
                    for lane in (0, 2)
                ]
                odd = [lane + 1 for lane in even]
            else:  # the same with fours of lanes
                even = [
                    source + 4 * four + lane
                    for source in (0, 16)
                    for four in (0, 2)
                    for lane in range(4)
                ]
                odd = [lane + 4 for lane in even]
            vectors = [
                _added(builder, a, b, even, odd) for a, b in zip(vectors[::2], vectors[1::2])
            ]
        pointer = _pointer(context, builder, signature, values, _SIXTEEN)
        builder.store(
            builder.fadd(builder.load(pointer, align=4), vectors[0], flags=_FLAGS), pointer, align=4
        )
        return context.get_dummy_value()

    return types.void(array, index, types.UniTuple(vector, 16)), generate


@inlined(AS_WRITTEN)
def dot(a, b, c, x, y, z):
    """a x + b y + c z of vectors."""
    return muladd(a, x, muladd(b, y, c * z))
