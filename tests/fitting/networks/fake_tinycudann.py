"""A stand-in for the package tinycudann, written from tiny-cuda-nn's documentation and not from
what packs for it.

Of ``FullyFusedMLP`` (DOCUMENTATION.md, issues 6, 111 and 308, bindings/torch/tinycudann/modules.py
of NVlabs/tiny-cuda-nn): inputs are padded with ones to a multiple of 16, rows to one of 256,
outputs to one of 16 and cut off again; matrices [outputs, inputs] lie row-major one behind the
other, without biases; what passes between layers is kept in the network's precision.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def evaluate(parameters: Tensor, x: Tensor, matrices: list[tuple[int, int]]) -> Tensor:
    """The outputs [N, *] of a vector of parameters for inputs [N, *], none of them padded yet."""
    x, start = pad(x, (0, -x.shape[1] % 16), value=1.0), 0
    for index, (rows, columns) in enumerate(matrices):
        matrix = parameters[start : start + rows * columns].reshape(rows, columns)
        x, start = (torch.relu(x) if index else x) @ matrix.T, start + rows * columns
    assert start == len(parameters)
    return x


def install(
    monkeypatch,
    precision: torch.dtype = torch.half,
    *,
    more_layers: int = 0,
    on_evaluation: Callable[[], None] = lambda: None,
) -> None:
    """Puts the stand-in where ``import tinycudann`` finds it. more_layers: another layout than the
    documented one."""

    class Network(nn.Module):
        def __init__(
            self, n_input_dims: int, n_output_dims: int, network_config: dict, seed: int = 1337
        ) -> None:
            super().__init__()
            assert network_config["otype"] == "FullyFusedMLP"
            assert (
                network_config["activation"] == "ReLU"
                and network_config["output_activation"] == "None"
            )
            if network_config["n_neurons"] not in (16, 32, 64, 128):
                raise RuntimeError("FullyFusedMLP only supports 16, 32, 64, and 128 neurons")
            self.n_input_dims, self.n_output_dims, self.dtype = (
                n_input_dims,
                n_output_dims,
                precision,
            )
            hidden = [network_config["n_neurons"]] * (
                network_config["n_hidden_layers"] + more_layers
            )
            sizes = [-(-n_input_dims // 16) * 16, *hidden, -(-n_output_dims // 16) * 16]
            self.matrices = list(zip(sizes[1:], sizes))
            self.params = nn.Parameter(
                torch.rand(sum(rows * columns for rows, columns in self.matrices))
            )

        def forward(self, x: Tensor) -> Tensor:
            on_evaluation()
            assert x.dtype == torch.float32 and x.shape[1] == self.n_input_dims
            padded = pad(x, (0, 0, 0, -len(x) % 256))
            outputs = evaluate(self.params.to(precision), padded.to(precision), self.matrices)
            return outputs[: len(x), : self.n_output_dims]

    module = types.ModuleType("tinycudann")
    module.Network = Network
    monkeypatch.setitem(sys.modules, "tinycudann", module)
