"""Checkpoints of a fit: safetensors and JSON in one file, whole or absent. No pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

from fitting.avatars import AvatarModel
from fitting.densify import Densifier
from scene.errors import UserError
from scene.files import atomic_path


@dataclasses.dataclass
class Progress:
    """Where a fit stands. step: iterations done. seconds: time spent in them. round_steps: steps at the last surgery."""

    step: int = 0
    seconds: float = 0.0


def save(
    path: Path, avatar: AvatarModel, optimizer: torch.optim.Optimizer, densifier: Densifier, progress: Progress
) -> None:
    """Writes everything that going on needs."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {f"avatar.{name}": value for name, value in avatar.state_dict().items()}
    names = {id(p): name for name, p in avatar.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}|{key}"] = torch.as_tensor(value)
    tensors |= {f"densifier.{name}": value for name, value in densifier.state().items()}
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            temporary,
            metadata={"progress": json.dumps(dataclasses.asdict(progress))},
        )


def load(
    path: Path, avatar: AvatarModel, optimizer: torch.optim.Optimizer, densifier: Densifier
) -> Progress:
    """Restores a fit in place; the avatar may have another number of Gaussians than the checkpoint.

    Raises UserError when the file is damaged or belongs to another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            progress = Progress(**json.loads(file.metadata()["progress"]))
        _restore_avatar(avatar, optimizer, _part(tensors, "avatar."))
        _restore_optimizer(avatar, optimizer, _part(tensors, "optimizer."))
        densifier.load(_part(tensors, "densifier."))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: damaged or of another model ({error}); remove it to start this fit anew") from None
    return progress


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def resize(avatar: AvatarModel, num_gaussians: int) -> None:
    """Gives every per-Gaussian parameter so many rows; their values are to be loaded next."""
    for parameter in avatar.per_gaussian.values():
        parameter.data = parameter.data.new_zeros(num_gaussians, *parameter.shape[1:])


def _restore_avatar(avatar: AvatarModel, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    del optimizer
    first = next(name for name in tensors if name.startswith("per_gaussian."))
    resize(avatar, tensors[first].shape[0])
    avatar.load_state_dict(tensors)


def _restore_optimizer(avatar: AvatarModel, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(avatar.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        owner, key = name.split("|")
        parameter = parameters[owner]
        # Adam's step counters stay on the CPU unless the optimiser is fused on a GPU.
        optimizer.state[parameter][key] = value.to(parameter.device)
