"""Networks of linear layers with ReLU between them as the parameter vector of tiny-cuda-nn's
``FullyFusedMLP``.

What is known of that vector, and from where (github.com/NVlabs/tiny-cuda-nn):

* One matrix [outputs, inputs] for each layer, row-major, one behind the other, and no biases (its
  author in issues 6 and 510; the constructor of ``FullyFusedMLP`` in src/fully_fused_mlp.cu makes
  them in this order).
* All hidden layers have the same width: 16, 32, 64 or 128 (DOCUMENTATION.md; src/network.cu).
* Inputs and outputs are padded to a multiple of 16. Padded inputs are 1 (issues 6 and 308), padded
  outputs are cut off.

Biases here are weights of what is always 1: one more input, which ``FusedMLP`` appends, and the
last unit of each hidden layer, which the layer before holds at ReLU(1) = 1. That is exact. All
other padding has weights 0, so that nothing depends on what padded inputs are. A network of 64
units therefore takes the width 128.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)
_ALIGNMENT = 16


class UnsupportedNetwork(ValueError):
    """A network that ``FullyFusedMLP`` cannot represent exactly; the message says why."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The sizes of a network, and where its weights are in the parameter vector."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int

    def __post_init__(self) -> None:
        if not self.hidden:
            raise UnsupportedNetwork("it has no hidden layer")
        if (widest := max(self.hidden)) >= WIDTHS[-1]:
            raise UnsupportedNetwork(
                f"a hidden layer has {widest} units; with the one that carries biases {WIDTHS[-1]} "
                "is the most"
            )

    @classmethod
    def of(cls, network: nn.Module) -> Layout:
        """The layout of an nn.Sequential of linear layers with ReLU between them. Raises
        UnsupportedNetwork."""
        if not isinstance(network, nn.Sequential) or len(network) % 2 == 0:
            raise UnsupportedNetwork("it is not a chain of linear layers with ReLU between them")
        for index, module in enumerate(network):
            if type(module) is not (nn.ReLU if index % 2 else nn.Linear):
                raise UnsupportedNetwork(
                    f"its part {index} is {type(module).__name__}, not linear and ReLU in turn"
                )
            if index % 2 == 0 and module.bias is None:
                raise UnsupportedNetwork(f"its part {index} has no biases")
        layers = linear_layers(network)
        *hidden, outputs = (layer.out_features for layer in layers)
        return cls(layers[0].in_features, tuple(hidden), outputs)

    @property
    def width(self) -> int:
        """Units of each hidden layer: at least one more than are used."""
        return next(width for width in WIDTHS if width > max(self.hidden))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows (outputs) and columns (inputs) of the matrices, in their order."""
        inner = [(self.width, self.width)] * (len(self.hidden) - 1)
        return [(self.width, _padded(self.inputs + 1)), *inner, (_padded(self.outputs), self.width)]

    @property
    def num_parameters(self) -> int:
        """Length of the parameter vector."""
        return sum(rows * columns for rows, columns in self.shapes)

    def network_config(self) -> dict[str, Any]:
        """The network in tiny-cuda-nn's words (DOCUMENTATION.md)."""
        return {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": self.width,
            "n_hidden_layers": len(self.hidden),
        }

    def _sizes(self) -> list[tuple[int, int, int]]:
        """Of each layer: outputs, inputs, and the column that is multiplied with 1."""
        ones = [self.inputs] + [self.width - 1] * len(self.hidden)
        return list(zip((*self.hidden, self.outputs), (self.inputs, *self.hidden), ones))


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    return [layer for layer in network.children() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def pack(network: nn.Module, dtype: torch.dtype = torch.half) -> Tensor:
    """The parameters of a network as tiny-cuda-nn's vector [P]; see the module. Raises
    UnsupportedNetwork."""
    layout, matrices = Layout.of(network), []
    for layer, shape, (outputs, inputs, one) in zip(
        linear_layers(network), layout.shapes, layout._sizes()
    ):
        matrix = layer.weight.new_zeros(shape)
        matrix[:outputs, :inputs] = layer.weight
        matrix[:outputs, one] = layer.bias
        if len(matrices) < len(layout.hidden):
            matrix[-1, one] = 1  # the unit that carries the next layer's biases
        matrices.append(matrix.flatten())
    packed = torch.cat(matrices).to(dtype)
    if not torch.isfinite(packed).all():
        raise UnsupportedNetwork(
            f"it has weights that are not finite in {str(dtype).removeprefix('torch.')}"
        )
    return packed


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
