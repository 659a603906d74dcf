"""Small networks on many rows: linear layers with ReLU between them, by blocks of rows that stay in
the cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 1024  # of 64 channels: a quarter of a megabyte


def apply_layers(mlp: nn.Sequential, inputs: list[Tensor]) -> Tensor:
    """``mlp(torch.cat(inputs, -1))`` for inputs [*b, C]; mlp: linear layers with biases and ReLUs
    in turn.

    On a CPU value and gradient are computed block by block, and the inputs are never copied
    together. Between the matrix products there is one sweep each (``likeness.ops.rows_cpu``).
    """
    if inputs[0].device.type != "cpu" or inputs[0].dtype not in (torch.float32, torch.float64):
        return mlp(torch.cat(inputs, -1))
    weights = [
        tensor
        for layer in mlp
        if isinstance(layer, nn.Linear)
        for tensor in (layer.weight, layer.bias)
    ]
    rows = [tensor.flatten(0, -2) for tensor in inputs]
    return _Layers.apply(len(rows), *rows, *weights).unflatten(0, inputs[0].shape[:-1])


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, num_inputs: int, *tensors: Tensor) -> Tensor:
        from likeness.ops import rows_cpu  # numba loads slowly: only when used

        inputs, parameters = tensors[:num_inputs], tensors[num_inputs:]
        weights, biases = parameters[::2], parameters[1::2]
        parts = [part.T for part in weights[0].split([tensor.shape[1] for tensor in inputs], 1)]
        transposed = [weight.T for weight in weights[1:]]
        count = len(inputs[0])
        # each layer's values
        layers = [inputs[0].new_empty(count, len(weight)) for weight in weights]
        arrays = [layer.numpy() for layer in layers]
        offsets = [bias.detach().numpy() for bias in biases]
        for first in range(0, count, BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, count)
            x = layers[0][first:last]
            torch.mm(inputs[0][first:last], parts[0], out=x)
            for part, tensor in zip(parts[1:], inputs[1:]):
                x.addmm_(tensor[first:last], part)
            for weight, layer, array, offset in zip(transposed, layers[1:], arrays, offsets):
                rows_cpu.add_bias(first, last, array, offset, True)
                x = torch.mm(x, weight, out=layer[first:last])
            rows_cpu.add_bias(first, last, arrays[-1], offsets[-1], False)
        ctx.save_for_backward(*inputs, *weights, *layers[:-1])
        ctx.num_inputs = num_inputs
        return layers[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        from likeness.ops import rows_cpu

        k, saved, grad = ctx.num_inputs, ctx.saved_tensors, grad.contiguous()
        depth = (len(saved) - k + 1) // 2
        inputs, weights, hidden = saved[:k], saved[k : k + depth], saved[k + depth :]
        sizes = [tensor.shape[1] for tensor in inputs]
        parts = weights[0].split(sizes, 1)
        g_weights = [torch.zeros_like(weight) for weight in weights]
        g_biases = [weight.new_zeros(len(weight)) for weight in weights]
        first = g_weights[0].split(sizes, 1)
        g_inputs = [
            torch.empty_like(t) if need else None
            for t, need in zip(inputs, ctx.needs_input_grad[1:])
        ]
        whole, values = grad.numpy(), [tensor.numpy() for tensor in hidden]
        totals = [total.numpy() for total in g_biases]
        spaces = [torch.empty_like(tensor[:BLOCK_ROWS]) for tensor in hidden]
        for start in range(0, len(grad), BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, len(grad))
            rows, g = slice(start, end), grad[start:end]
            rows_cpu.add_rows(start, end, whole, totals[-1])
            for layer in reversed(range(1, depth)):
                g_weights[layer].addmm_(g.T, hidden[layer - 1][rows])
                g = torch.mm(g, weights[layer], out=spaces[layer - 1][: end - start])
                rows_cpu.stop_at_relu(
                    start, end - start, g.numpy(), values[layer - 1], totals[layer - 1]
                )
            for tensor, part, g_part, g_input in zip(inputs, parts, first, g_inputs):
                g_part.addmm_(g.T, tensor[rows])
                if g_input is not None:
                    torch.mm(g, part, out=g_input[rows])
        return None, *g_inputs, *[t for pair in zip(g_weights, g_biases) for t in pair]
