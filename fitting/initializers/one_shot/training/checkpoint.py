"""Checkpoints of a training run: safetensors and JSON in one file, whole or absent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from scene.errors import UserError
from scene.reading import damage, decode_json
from scene.tensor_files import Array, TensorHeader, read_header, read_tensors, save_tensors

_WHAT, _REMEDY = "checkpoint of a training run", "remove it to train anew"


@dataclasses.dataclass
class Progress:
    """Where a run stands. step: done. seconds: spent in them. samples: sources seen, over all processes."""

    step: Annotated[int, Meta(ge=0, le=10**12)] = 0
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    samples: Annotated[int, Meta(ge=0, le=10**12)] = 0


def save(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, progress: Progress,
    kind: str,
) -> None:  # fmt: skip
    """Writes everything that going on needs. kind: says which network it is; ``load`` compares it."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    names = {id(p): name for name, p in network.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}|{key}"] = torch.as_tensor(value)
    save_tensors(path, tensors, {"progress": json.dumps(dataclasses.asdict(progress)), "kind": kind})


def load(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, kind: str
) -> Progress:
    """Restores a run in place. Raises UserError when the file is damaged or of another network."""
    header = read_header(path, _WHAT, remedy=_REMEDY)
    texts = header.texts
    if texts.get("kind") != kind:
        raise UserError(f"{path}: of a network with other settings; use the run's own, or another --out")
    progress = decode_json(texts.get("progress", ""), Progress, path, _WHAT, _REMEDY)
    declared = _declared(network, average, optimizer, header)
    tensors = read_tensors(path, _WHAT, declared, remedy=_REMEDY)
    with damage(path, _WHAT, _REMEDY):
        network.load_state_dict(_part(tensors, "network."))
        for name, value in _part(tensors, "average.").items():
            average[name].copy_(value)
        parameters = dict(network.named_parameters())
        optimizer.state.clear()
        for name, value in _part(tensors, "optimizer.").items():
            owner, key = name.split("|")
            parameter = parameters[owner]
            optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
    return progress


def _declared(
    network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, header: TensorHeader
) -> dict[str, Array]:
    """What the file must hold: all weights and averages, and Adam's state of whatever has taken a step."""
    arrays = {f"network.{name}": _like(value) for name, value in network.state_dict().items()}
    arrays |= {f"average.{name}": _like(value) for name, value in average.items()}
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        prefix = f"optimizer.{name}|"
        if id(parameter) in optimised and any(stored.startswith(prefix) for stored in header.arrays):
            arrays[f"{prefix}step"] = Array((), "real", low=0, high=1e9)
            arrays[f"{prefix}exp_avg"] = _like(parameter)
            arrays[f"{prefix}exp_avg_sq"] = dataclasses.replace(_like(parameter), low=0)
    return arrays


def _like(value: Tensor) -> Array:
    return Array(tuple(value.shape), str(value.dtype).removeprefix("torch."))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
