"""Checkpoints of a fit: safetensors and JSON in one file, whole or absent. No pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

from fitting.avatars import AvatarModel
from fitting.densify import Densifier
from fitting.optimizers import Optimizer
from scene.errors import UserError
from scene.tensor_files import load_tensors_and_metadata, save_tensors


@dataclasses.dataclass
class Progress:
    """Where a fit stands. step: iterations done. seconds: time spent in them."""

    step: int = 0
    seconds: float = 0.0


def save(
    path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier, progress: Progress
) -> None:
    """Writes everything that going on needs."""
    tensors: dict[str, Tensor] = {f"avatar.{name}": value for name, value in avatar.state_dict().items()}
    names = {id(p): name for name, p in avatar.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}|{key}"] = torch.as_tensor(value)
    tensors |= {f"densifier.{name}": value for name, value in densifier.state().items()}
    save_tensors(path, tensors, {"progress": json.dumps(dataclasses.asdict(progress))})


def load(
    path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier
) -> Progress:
    """Restores a fit in place; the avatar may have another number of Gaussians than the checkpoint.

    Raises UserError when the file is damaged or belongs to another model.
    """
    tensors, metadata = load_tensors_and_metadata(path)
    try:
        progress = Progress(**json.loads(metadata["progress"]))
        _restore_avatar(avatar, _part(tensors, "avatar."))
        _restore_optimizer(avatar, optimizer, _part(tensors, "optimizer."))
        place = next(avatar.parameters()).device
        densifier.load({name: value.to(place) for name, value in _part(tensors, "densifier.").items()})
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise UserError(f"{path}: damaged or of another model ({error}); remove it to start this fit anew") from None
    return progress


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def resize(avatar: AvatarModel, num_gaussians: int) -> None:
    """Gives every per-Gaussian parameter so many rows; their values are to be loaded next."""
    for parameter in avatar.per_gaussian.values():
        parameter.data = parameter.data.new_zeros(num_gaussians, *parameter.shape[1:])


def _restore_avatar(avatar: AvatarModel, tensors: dict[str, Tensor]) -> None:
    first = next(name for name in tensors if name.startswith("per_gaussian."))
    resize(avatar, tensors[first].shape[0])
    avatar.load_state_dict(tensors)


def _restore_optimizer(avatar: AvatarModel, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(avatar.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        owner, key = name.split("|")
        parameter = parameters[owner]
        # Adam's step counters stay on the CPU unless the optimiser is fused on a GPU; geoopt counts with Python's own.
        plain = key == "step" and hasattr(parameter, "manifold")
        optimizer.state[parameter][key] = int(value) if plain else value.to(parameter.device)
