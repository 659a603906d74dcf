"""Several training processes as torchrun starts them; one process needs none of it."""

from __future__ import annotations

import dataclasses
import os

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among ``count``."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def sum_gradients(self, network: nn.Module) -> None:
        """Replaces every gradient by the mean over the processes, in one message."""
        if self.count == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        )
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad = gradient.reshape(parameter.shape)

    def agree(self, value: float) -> float:
        """The first process's value, in all."""
        if self.count == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        if torch.distributed.get_backend() == "nccl":
            tensor = tensor.cuda(self.local_rank)
        torch.distributed.broadcast(tensor, 0)
        return float(tensor)


def join(device: torch.device) -> Processes:
    """Joins the other processes where torchrun started this one: nccl on CUDA, gloo on the CPU."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(
        torch.distributed.get_rank(),
        torch.distributed.get_world_size(),
        int(os.environ.get("LOCAL_RANK", "0")),
    )
