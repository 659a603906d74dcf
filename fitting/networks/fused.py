"""Networks evaluated by tiny-cuda-nn, through its PyTorch bindings. The only file that imports
tinycudann.

From bindings/torch/tinycudann/modules.py: ``Network`` pads rows to the batch size granularity (256)
itself, takes float32 inputs, computes in its own precision (half, where the GPU has tensor cores),
and gives outputs in that; importing the package without CUDA raises EnvironmentError. What it gains
is measured whenever a player is made (``choice``), and by ``python -m benchmarks.playback``.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from likeness.fitting.networks.layout import Layout, UnsupportedNetwork, linear_layers, pack

INSTALL = 'pip install "tinycudann @ git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"'


def why_not(device: torch.device | str) -> str | None:
    """Why networks cannot be evaluated by tiny-cuda-nn on a device; None where they can."""
    if torch.device(device).type != "cuda":
        return f"it runs on CUDA only, not on the device '{device}'"
    try:
        _package()
    except (ImportError, OSError) as error:
        return f"the package tinycudann cannot be imported ({' '.join(str(error).split())})"
    return None


def _package():
    import tinycudann  # pyright: ignore[reportMissingImports]

    return tinycudann


class FusedMLP(nn.Module):
    """A network by tiny-cuda-nn with the weights that it has now, for inference: it builds no
    gradients.

    Raises UnsupportedNetwork where it cannot be one, ImportError where the package is missing,
    RuntimeError where tiny-cuda-nn fails.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layout, (first, *_) = Layout.of(network), linear_layers(network)
        device = first.weight.device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            sizes = self.layout.inputs + 1, self.layout.outputs
            fused = _package().Network(*sizes, self.layout.network_config())
        count = self.layout.num_parameters
        if fused.params.shape != (count,):
            raise UnsupportedNetwork(
                f"tinycudann has {fused.params.numel()} parameters for it instead of {count}: this "
                "version or GPU arranges them otherwise"
            )
        fused.params = nn.Parameter(pack(network, fused.dtype), requires_grad=False)
        self._fused = fused
        self._one = torch.ones(1, 1, device=device)

    @torch.no_grad()
    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Outputs [N, *], float32, for inputs [N, *] that are laid side by side."""
        rows = len(inputs[0])
        if rows == 0:
            return inputs[0].new_empty(0, self.layout.outputs)
        return self._fused(torch.cat([*inputs, self._one.expand(rows, 1)], -1)).float()
