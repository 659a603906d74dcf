"""Small tensors from the host to a device, without a wait for what the device is doing."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensors: tuple[Tensor, ...], device: torch.device | str) -> tuple[Tensor, ...]:
    """The tensors on a device. To CUDA those of one type go in one copy, from page-locked memory,
    which PyTorch keeps until the copy is done; from any other memory the host would wait."""
    if torch.device(device).type != "cuda" or any(
        tensor.device.type != "cpu" for tensor in tensors
    ):
        return tuple(tensor.to(device) for tensor in tensors)
    if len({tensor.dtype for tensor in tensors}) > 1:
        return tuple(to_device((tensor,), device)[0] for tensor in tensors)
    packed = (
        torch.cat([tensor.reshape(-1) for tensor in tensors])
        .pin_memory()
        .to(device, non_blocking=True)
    )
    sizes = [tensor.numel() for tensor in tensors]
    parts = torch.split(packed, sizes)
    return tuple(part.view(tensor.shape) for part, tensor in zip(parts, tensors))
