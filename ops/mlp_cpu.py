"""Blended tables and small networks of many Gaussians, in numba: by blocks of Gaussians that never
leave the cache.

See ``likeness.ops.mlp``. A block's numbers lie channel by channel, [channels, LANES], so that every
instruction works on several Gaussians.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from likeness.ops.compilation import has_avx512, kernel

ROWS = 8
"""Outputs of a layer that are summed up at once; layers are padded to multiples of it."""
PARTS = 4
"""Entries of a table that are blended at once; what is left is filled up with factors of 0."""
LANES = 32 if has_avx512() else 8
"""Gaussians of a block: what one instruction works on, 8; with AVX-512, which has registers for it,
twice 16."""

_VECTOR, _WHOLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract", "reassoc", "nsz")


class _Emitter:
    """Writes LLVM instructions on vectors of ``LANES`` numbers."""

    def __init__(self, context, builder) -> None:
        self.context, self.builder = context, builder
        self.intp = context.get_value_type(types.intp)
        name, signature = f"llvm.fmuladd.v{LANES}f32", ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        self._multiply_add = cgutils.get_or_insert_function(builder.module, signature, name)

    def number(self, value: int):
        return ir.Constant(self.intp, value)

    def index(self, value, kind):
        return self.context.cast(self.builder, value, kind, types.intp)

    def data(self, array, kind):
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def place(self, data, row, vector=_VECTOR):
        """The address of row ``row`` of rows of ``LANES`` numbers."""
        at = self.builder.gep(data, [self.builder.mul(row, self.number(LANES))])
        return self.builder.bitcast(at, vector.as_pointer())

    def load(self, data, row, vector=_VECTOR, align: int = 4):
        return self.builder.load(self.place(data, row, vector), align=align)

    def store(self, value, data, row) -> None:
        self.builder.store(value, self.place(data, row), align=4)

    def spread(self, number):
        nothing, zero = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(nothing, number, zero)
        return self.builder.shuffle_vector(first, nothing, ir.Constant(_WHOLES, [0] * LANES))

    def multiply_add(self, a, b, c):
        return self.builder.call(self._multiply_add, [a, b, c], fastmath=_FUSED)


def _are_arrays(*checked: tuple[types.Type, types.Type]) -> bool:
    return all(isinstance(kind, types.Array) and kind.dtype == number for kind, number in checked)


@intrinsic
def _blend(typing_context, table, row, factors, first, used, count, offset, x, channel):
    """x[channel] = offset + Σ_u factors[first + u] table[row + used[u]] for u < count, a multiple
    of 4.

    x: [*, LANES] float32. table: int8 or int16, its rows of LANES one after the other. Sums stay in
        registers.
    """
    numbers = (factors, types.float32), (used, types.intp), (x, types.float32)
    if not _are_arrays(*numbers) or table.dtype not in (types.int8, types.int16):
        return None
    entries = ir.VectorType(ir.IntType(table.dtype.bitwidth), LANES)

    def generate(context, builder, signature, arguments):
        e, kinds = _Emitter(context, builder), signature.args
        table, factors, used, x = (e.data(arguments[i], kinds[i]) for i in (0, 2, 4, 7))
        row, first, count, channel = (e.index(arguments[i], kinds[i]) for i in (1, 3, 5, 8))
        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(PARTS)]
        for total in sums:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
        builder.store(e.spread(arguments[6]), sums[0])
        with cgutils.for_range(builder, builder.sdiv(count, e.number(PARTS))) as four:
            for i, total in enumerate(sums):
                u = builder.add(builder.mul(four.index, e.number(PARTS)), e.number(i))
                entry = e.load(
                    table, builder.add(row, builder.load(builder.gep(used, [u]))), entries, 1
                )
                value = builder.sitofp(builder.sext(entry, _WHOLES), _VECTOR)
                factor = builder.load(builder.gep(factors, [builder.add(first, u)]))
                builder.store(e.multiply_add(e.spread(factor), value, builder.load(total)), total)
        a, b, c, d = (builder.load(total) for total in sums)
        e.store(builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), x, channel)
        return context.get_dummy_value()

    return types.void(table, row, factors, first, used, count, types.float32, x, channel), generate


@intrinsic
def _layer(typing_context, weights, at, x, inputs, y, outputs, relu):
    """y[j] += Σ_k weights[at + ...] x[k] for the rows j < outputs of y and k < inputs of x, both
    [*, LANES]; then, if ``relu``, what is negative becomes 0. Weights lie as [outputs / ROWS,
    inputs, ROWS]. Sums stay in registers."""
    if not _are_arrays(*((array, types.float32) for array in (weights, x, y))):
        return None

    def generate(context, builder, signature, arguments):
        e, kinds = _Emitter(context, builder), signature.args
        weights, x, y = (e.data(arguments[i], kinds[i]) for i in (0, 2, 4))
        at, inputs, outputs = (e.index(arguments[i], kinds[i]) for i in (1, 3, 5))
        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(ROWS)]
        with cgutils.for_range(builder, builder.sdiv(outputs, e.number(ROWS))) as chunk:
            top = builder.mul(chunk.index, e.number(ROWS))
            rows = [builder.add(top, e.number(i)) for i in range(ROWS)]
            for row, total in zip(rows, sums):
                builder.store(e.load(y, row), total)
            start = builder.add(at, builder.mul(top, inputs))
            with cgutils.for_range(builder, inputs) as k:
                value = e.load(x, k.index)
                place = builder.add(start, builder.mul(k.index, e.number(ROWS)))
                for i, total in enumerate(sums):
                    weight = builder.load(builder.gep(weights, [builder.add(place, e.number(i))]))
                    builder.store(
                        e.multiply_add(e.spread(weight), value, builder.load(total)), total
                    )
            for row, total in zip(rows, sums):
                value, zero = builder.load(total), ir.Constant(_VECTOR, [0.0] * LANES)
                positive = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
                e.store(builder.select(arguments[6], positive, value), y, row)
        return context.get_dummy_value()

    return types.void(weights, at, x, inputs, y, outputs, types.boolean), generate


@kernel()
def evaluate(first, last, table, factors, used, offsets, start, weights, biases, sizes, out):
    """Writes the rows of ``out`` [N, O] that belong to the blocks ``first`` to ``last``.

    table: [blocks, f, B, LANES] int8 or int16; factors: [f, U], what each entry is multiplied with,
    for the U ``used`` b; offsets: [f], what is added.
    start: [blocks, sizes[0], LANES], what the blended channels, taken through the first layer, are
        added to.
    weights: of all layers one after the other, as ``_layer`` reads them; biases: [sizes[1] + ...];
    sizes: the layers' padded outputs. Without layers (weights are empty, sizes is [f]) the blend
    itself is added.
    """
    channels, codes, count = table.shape[1], table.shape[2], used.shape[0]
    largest = channels
    for layer in range(sizes.shape[0]):
        largest = max(largest, sizes[layer])
    x, y = np.empty((largest, LANES), np.float32), np.empty((largest, LANES), np.float32)
    entries, flat = table.reshape(-1), factors.reshape(-1)
    for block in range(first, last):
        own = start[block]
        for i in range(channels):
            _blend(
                entries,
                (block * channels + i) * codes,
                flat,
                i * count,
                used,
                count,
                offsets[i],
                x,
                i,
            )
        if weights.shape[0] == 0:
            for i in range(channels):
                for lane in range(LANES):
                    x[i, lane] += own[i, lane]
        else:
            for i in range(sizes[0]):
                for lane in range(LANES):
                    y[i, lane] = own[i, lane]
            _layer(weights, 0, x, channels, y, sizes[0], sizes.shape[0] > 1)
            x, y = y, x
            at, bias = sizes[0] * channels, 0
            for layer in range(1, sizes.shape[0]):
                for j in range(sizes[layer]):
                    y[j] = biases[bias + j]
                _layer(
                    weights, at, x, sizes[layer - 1], y, sizes[layer], layer + 1 < sizes.shape[0]
                )
                x, y = y, x
                at, bias = at + sizes[layer] * sizes[layer - 1], bias + sizes[layer]
        row = block * LANES
        for lane in range(min(LANES, out.shape[0] - row)):
            for j in range(out.shape[1]):
                out[row + lane, j] = x[j, lane]
