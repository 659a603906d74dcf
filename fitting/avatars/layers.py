"""Small networks on many rows: linear layers with ReLU between them, by blocks of rows that stay in the cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 1024  # of 64 channels: a quarter of a megabyte


def apply_layers(mlp: nn.Sequential, inputs: list[Tensor]) -> Tensor:
    """``mlp(torch.cat(inputs, -1))`` for inputs [N, *]; mlp: linear layers with biases and ReLUs in turn.

    On a CPU value and gradient are computed block by block, and what is laid side by side is never copied together.
    """
    if inputs[0].device.type != "cpu":
        return mlp(torch.cat(inputs, -1))
    weights = [tensor for layer in mlp if isinstance(layer, nn.Linear) for tensor in (layer.weight, layer.bias)]
    return _Layers.apply(len(inputs), *inputs, *weights)


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, num_inputs: int, *tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:num_inputs], tensors[num_inputs:]
        weights, biases = parameters[::2], parameters[1::2]
        parts = weights[0].split([tensor.shape[1] for tensor in inputs], 1)
        layers = [inputs[0].new_empty(len(inputs[0]), len(weight)) for weight in weights]  # each layer's values
        for a in range(0, len(inputs[0]), BLOCK_ROWS):
            rows = slice(a, a + BLOCK_ROWS)
            x = layers[0][rows]
            torch.addmm(biases[0], inputs[0][rows], parts[0].T, out=x)
            for part, tensor in zip(parts[1:], inputs[1:]):
                x.addmm_(tensor[rows], part.T)
            for weight, bias, layer in zip(weights[1:], biases[1:], layers[1:]):
                x = torch.addmm(bias, x.relu_(), weight.T, out=layer[rows])
        ctx.save_for_backward(*inputs, *weights, *layers[:-1])
        ctx.num_inputs = num_inputs
        return layers[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        k, saved = ctx.num_inputs, ctx.saved_tensors
        depth = (len(saved) - k + 1) // 2
        inputs, weights, hidden = saved[:k], saved[k : k + depth], saved[k + depth :]
        sizes = [tensor.shape[1] for tensor in inputs]
        parts = weights[0].split(sizes, 1)
        g_weights = [torch.zeros_like(weight) for weight in weights]
        g_biases = [weight.new_zeros(len(weight)) for weight in weights]
        first = g_weights[0].split(sizes, 1)
        g_inputs = [torch.empty_like(t) if need else None for t, need in zip(inputs, ctx.needs_input_grad[1:])]
        for a in range(0, len(grad), BLOCK_ROWS):
            rows = slice(a, a + BLOCK_ROWS)
            g = grad[rows]
            for layer in reversed(range(1, depth)):
                values = hidden[layer - 1][rows]
                g_weights[layer].addmm_(g.T, values)
                g_biases[layer].add_(g.sum(0))
                g = torch.ops.aten.threshold_backward(g @ weights[layer], values, 0)  # where ReLU let it through
            g_biases[0].add_(g.sum(0))
            for tensor, part, g_part, g_input in zip(inputs, parts, first, g_inputs):
                g_part.addmm_(g.T, tensor[rows])
                if g_input is not None:
                    torch.mm(g, part, out=g_input[rows])
        return None, *g_inputs, *[t for pair in zip(g_weights, g_biases) for t in pair]
