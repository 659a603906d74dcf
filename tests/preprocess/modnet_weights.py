"""Synthetic weights for MODNet, by the formula of the reference values."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch


def synthetic_state_dict() -> dict[str, torch.Tensor]:
    """Weights by name: the same on every machine; integers keep their initial values."""
    from likeness.preprocess.matting.modnet_network import MODNet

    return {name: _synthetic(name, tensor) for name, tensor in MODNet().state_dict().items()}


def _synthetic(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    g, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(tensor.shape)
    if name.endswith("running_var"):
        values = g.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        values = g.normal(0, 0.1, shape)
    elif len(shape) == 1 and name.endswith("weight"):
        values = g.uniform(0.8, 1.2, shape)
    elif len(shape) == 1:
        values = g.normal(0, 0.1, shape)
    else:
        values = g.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
    return torch.from_numpy(values.astype(np.float32))
