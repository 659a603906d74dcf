"""Checkpoints of a training run: safetensors and JSON in one file, whole or absent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from scene.errors import UserError
from scene.tensor_files import load_tensors_and_metadata, save_tensors


@dataclasses.dataclass
class Progress:
    """Where a run stands. step: done. seconds: spent in them. samples: sources seen, over all processes."""

    step: int = 0
    seconds: float = 0.0
    samples: int = 0


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
    tensors, metadata = load_tensors_and_metadata(path)
    if metadata.get("kind") != kind:
        raise UserError(f"{path}: of a network with other settings; use the run's own, or another --out")
    try:
        network.load_state_dict(_part(tensors, "network."))
        found = _part(tensors, "average.")
        for name, value in average.items():
            value.copy_(found[name])
        parameters = dict(network.named_parameters())
        optimizer.state.clear()
        for name, value in _part(tensors, "optimizer.").items():
            owner, key = name.split("|")
            parameter = parameters[owner]
            optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
        return Progress(**json.loads(metadata["progress"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it to train anew") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
