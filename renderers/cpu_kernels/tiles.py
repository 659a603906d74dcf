"""Tiles' pixels between vectors, row by row of a tile, and images."""

# pyright: basic

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from likeness.ops.simd import WIDTH, intrinsic, vector
from likeness.renderers.cpu_kernels.layout import TILE

ROWS = WIDTH // TILE
"""Rows of a tile that one vector holds."""


def _place(context, builder, signature, values, row: int, numbers: int):
    """Where a row starts in the flat array and with the first index and the row length that are the
    first values."""
    kinds = signature.args
    data = context.make_array(kinds[0])(context, builder, values[0]).data
    first, length = (context.cast(builder, values[i], kinds[i], types.intp) for i in (1, 2))
    at = builder.add(first, builder.mul(length, context.get_constant(types.intp, row)))
    return builder.bitcast(
        builder.gep(data, [at]), ir.VectorType(ir.FloatType(), numbers).as_pointer()
    )


def _lanes(builder, a, b, lanes):
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    )


@intrinsic
def store_rows(typing_context, image, first, length, value):
    """Writes a vector's rows of TILE numbers to a flat image [H * W] with rows of ``length``,
    from ``first`` on."""

    def generate(context, builder, signature, values):
        for row in range(ROWS):
            lanes = list(range(row * TILE, (row + 1) * TILE))
            numbers = _lanes(builder, values[3], values[3], lanes)
            builder.store(numbers, _place(context, builder, signature, values, row, TILE), align=4)
        return context.get_dummy_value()

    return types.void(image, first, length, vector), generate


@intrinsic
def store_colours(typing_context, image, first, length, colours):
    """The same for the three vectors of a flat image [H * W * 3] of red, green, blue; ``length``:
    of its rows."""

    def generate(context, builder, signature, values):
        red, green, blue = cgutils.unpack_tuple(builder, values[3], 3)
        for row in range(ROWS):
            pairs = _lanes(
                builder,
                red,
                green,
                [start + row * TILE + x for start in (0, WIDTH) for x in range(TILE)],
            )
            third = _lanes(builder, blue, blue, [row * TILE + x % TILE for x in range(2 * TILE)])
            mixed = [channel * TILE + x for x in range(TILE) for channel in range(3)]
            numbers = _lanes(builder, pairs, third, mixed)
            builder.store(
                numbers, _place(context, builder, signature, values, row, 3 * TILE), align=4
            )
        return context.get_dummy_value()

    return types.void(image, first, length, types.UniTuple(vector, 3)), generate
