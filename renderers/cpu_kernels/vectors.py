"""Vectors of WIDTH float32 for kernels: one operator is one vector instruction (or a few, on narrower machines).

``a + b``, ``a - b``, ``a * b``, ``a / b``, ``-a``, ``abs(a)``, comparisons (which make masks) and ``mask & mask`` work as
on numbers. Nothing is reordered, and only ``muladd`` may fuse: equal expressions have equal bits in every kernel.
All values are assumed finite where they matter, as under ``compiling.FINITE``.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

WIDTH = 16
"""Two rows of a tile: AVX-512's width; elsewhere LLVM makes two or four narrower instructions of one."""

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

    infer_global(function)(Typing)
    lower_builtin(function, *arguments)(lambda context, builder, signature, values: generate(builder, *values))


def _compare(function, symbol: str) -> None:
    _define(function, mask, (vector, vector), lambda builder, a, b: builder.fcmp_ordered(symbol, a, b, flags=_FLAGS))


def _call(builder, name: str, result, *values):
    function = ir.FunctionType(result, [value.type for value in values])
    callee = cgutils.get_or_insert_function(builder.module, function, name)
    return builder.call(callee, values, fastmath=_FLAGS)


_NAME = f"v{WIDTH}f32"
_define(operator.add, vector, (vector, vector), lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS))
_define(operator.sub, vector, (vector, vector), lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS))
_define(operator.mul, vector, (vector, vector), lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS))
_define(operator.truediv, vector, (vector, vector), lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS))
_define(operator.neg, vector, (vector,), lambda builder, a: builder.fneg(a, flags=_FLAGS))
_define(abs, vector, (vector,), lambda builder, a: _call(builder, f"llvm.fabs.{_NAME}", _FLOATS, a))
_define(operator.and_, mask, (mask, mask), lambda builder, a, b: builder.and_(a, b))
_compare(operator.lt, "<")
_compare(operator.le, "<=")
_compare(operator.gt, ">")
_compare(operator.ge, ">=")


def _splat(builder, number, kind=_FLOATS):
    """The same number in every lane."""
    if isinstance(number, ir.Constant):
        return ir.Constant(kind, [number.constant] * WIDTH)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_INT, 0))
    lanes = ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), lanes)


def _pointer(context, builder, kind, array, index, index_kind):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [context.cast(builder, index, index_kind, types.intp)]), _FLOATS.as_pointer())


@intrinsic
def broadcast(typing_context, number):
    """The same float32 in every lane."""
    return vector(types.float32), lambda context, builder, signature, values: _splat(builder, values[0])


@intrinsic
def load(typing_context, array, index):
    """WIDTH numbers of a contiguous float32 array, from an index on."""

    def generate(context, builder, signature, values):
        pointer = _pointer(context, builder, signature.args[0], values[0], values[1], signature.args[1])
        return builder.load(pointer, align=4)

    return vector(array, index), generate


@intrinsic
def store(typing_context, array, index, value):
    """Writes WIDTH numbers to a contiguous float32 array, from an index on."""

    def generate(context, builder, signature, values):
        pointer = _pointer(context, builder, signature.args[0], values[0], values[1], signature.args[1])
        builder.store(values[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, index, vector), generate


@intrinsic
def muladd(typing_context, a, b, c):
    """a b + c, rounded once where the machine can."""

    def generate(context, builder, signature, values):
        return _call(builder, f"llvm.fmuladd.{_NAME}", _FLOATS, *values)

    return vector(vector, vector, vector), generate


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
def where(typing_context, condition, a, b):
    """a in the lanes where the mask is set, b in the others."""
    return vector(mask, vector, vector), lambda context, builder, signature, values: builder.select(*values)


@intrinsic
def any_lane(typing_context, condition):
    """Whether a mask is set in any lane."""

    def generate(context, builder, signature, values):
        function = ir.FunctionType(_BIT, [_BITS])
        name = f"llvm.vector.reduce.or.v{WIDTH}i1"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), values)

    return types.boolean(mask), generate


def _pick(builder, a, b, lanes):
    """A vector of chosen lanes of two vectors, counted through."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _added(builder, a, b, first, second):
    """The sum of two choices of lanes of two vectors."""
    return builder.fadd(_pick(builder, a, b, first), _pick(builder, a, b, second), flags=_FLAGS)


@intrinsic
def add_lane_sums(typing_context, row, *vectors):
    """Adds each of 16 vectors' sum over its lanes to the number at its place in a row of 16.

    A tree that halves the vectors and their lanes in turn: a third of the instructions of 16 separate sums.
    """

    def generate(context, builder, signature, values):
        kinds = signature.args[1]
        vectors = cgutils.unpack_tuple(builder, values[1], len(kinds))
        chunks = range(0, WIDTH, 16)
        for index, whole in enumerate(vectors):
            parts = [_pick(builder, whole, whole, list(range(start, start + 16))) for start in chunks]
            while len(parts) > 1:
                parts = [builder.fadd(a, b, flags=_FLAGS) for a, b in zip(parts[::2], parts[1::2])]
            vectors[index] = parts[0]
        for stage in range(4):
            if stage < 2:  # within each four lanes: even lanes of a, then of b; and the odd lanes
                even = [four + source + lane for four in range(0, 16, 4) for source in (0, 16) for lane in (0, 2)]
                odd = [lane + 1 for lane in even]
            else:  # the same with fours of lanes
                even = [source + 4 * four + lane for source in (0, 16) for four in (0, 2) for lane in range(4)]
                odd = [lane + 4 for lane in even]
            vectors = [_added(builder, a, b, even, odd) for a, b in zip(vectors[::2], vectors[1::2])]
        pointer = _pointer(context, builder, signature.args[0], values[0], context.get_constant(types.intp, 0), types.intp)
        pointer = builder.bitcast(pointer, _SIXTEEN.as_pointer())
        builder.store(builder.fadd(builder.load(pointer, align=4), vectors[0], flags=_FLAGS), pointer, align=4)
        return context.get_dummy_value()

    return types.void(row, types.UniTuple(vector, 16)), generate


# Minimax polynomial of 2^f on [-1/2, 1/2] with the value 1 at 0: relative error 9e-8, 1.7e-7 in float32.
_EXP2 = 0.0013254603, 0.0096719991, 0.055507794, 0.24022232, 0.69314694, 1.0
_ROUNDING = 1.5 * 2**23  # added, it leaves the nearest whole number in the lowest bits


@intrinsic
def exp2(typing_context, exponent):
    """2^x for -126 < x < 127, with a relative error of 3e-7; meaningless (but harmless) beyond."""

    def generate(context, builder, signature, values):
        x, rounding = values[0], ir.Constant(_FLOATS, [_ROUNDING] * WIDTH)
        shifted = builder.fadd(x, rounding)
        f = builder.fsub(x, builder.fsub(shifted, rounding))
        result = None
        for coefficient in _EXP2:
            term = ir.Constant(_FLOATS, [coefficient] * WIDTH)
            result = term if result is None else _call(builder, f"llvm.fmuladd.{_NAME}", _FLOATS, result, f, term)
        power = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * WIDTH))
        return builder.bitcast(builder.add(builder.bitcast(result, _INTS), power), _FLOATS)

    return vector(vector), generate
