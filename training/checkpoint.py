"""Checkpoints of a training run: safetensors and JSON in one file, whole or absent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from likeness.fitting import checkpoint, optimizer_state
from likeness.scene.errors import UserError
from likeness.scene.reading import damage, decode_json
from likeness.scene.tensor_files import Array, part, read_header, read_tensors, save_tensors

_WHAT, _REMEDY = "checkpoint of a training run", "remove it to train anew"


@dataclasses.dataclass
class Progress(checkpoint.Progress):
    """Where a run stands: beside steps and seconds, sources seen over all processes."""

    samples: Annotated[int, Meta(ge=0, le=10**12)] = 0


def save(
    path: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    kind: str,
) -> None:
    """Writes everything that going on needs. kind: says which network it is; ``load`` compares
    it."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    tensors |= optimizer_state.stored(network, optimizer)
    save_tensors(
        path, tensors, {"progress": json.dumps(dataclasses.asdict(progress)), "kind": kind}
    )


def load(
    path: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    kind: str,
) -> Progress:
    """Restores a run in place. Raises UserError when the file is damaged or of another network."""
    header = read_header(path, _WHAT, remedy=_REMEDY)
    texts = header.texts
    if texts.get("kind") != kind:
        raise UserError(
            f"{path}: of a network with other settings; use the run's own, or another --out"
        )
    progress = decode_json(texts.get("progress", ""), Progress, path, _WHAT, _REMEDY)
    weights = {name: Array.like(value) for name, value in network.state_dict().items()}
    declared = {f"network.{name}": array for name, array in weights.items()}
    declared |= {f"average.{name}": Array.like(value) for name, value in average.items()}
    declared |= optimizer_state.declared(network, optimizer, weights, header)
    tensors = read_tensors(path, _WHAT, declared, remedy=_REMEDY)
    with damage(path, _WHAT, _REMEDY):
        network.load_state_dict(part(tensors, "network."))
        for name, value in part(tensors, "average.").items():
            average[name].copy_(value)
        optimizer_state.restore(network, optimizer, tensors, lambda steps, _: steps)
    return progress
