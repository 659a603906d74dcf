"""Fetching table rows ahead of their use: the tables are larger than the cache next to the core."""

# pyright: basic

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from likeness.ops.simd import intrinsic

AHEAD = 4
"""How many list entries ahead of the one at work."""

_INT, _BYTES = ir.IntType(32), ir.IntType(8).as_pointer()
_PREFETCH = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])


@intrinsic
def prefetch_row(typing_context, table, row):
    """Asks for the cache line at the start of a row of a two-dimensional array."""

    def generate(context, builder, signature, arguments):
        kind, row_kind = signature.args
        array = context.make_array(kind)(context, builder, arguments[0])
        shape, strides = (
            cgutils.unpack_tuple(builder, array.shape, 2),
            cgutils.unpack_tuple(builder, array.strides, 2),
        )
        index = (
            context.cast(builder, arguments[1], row_kind, types.intp),
            context.get_constant(types.intp, 0),
        )
        pointer = cgutils.get_item_pointer2(
            context, builder, array.data, shape, strides, kind.layout, index
        )
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], _PREFETCH)
        for_reading, keep, data = (ir.Constant(_INT, value) for value in (0, 3, 1))
        builder.call(prefetch, [builder.bitcast(pointer, _BYTES), for_reading, keep, data])
        return context.get_dummy_value()

    return types.void(table, row), generate
