"""Checkpoints of a fit: safetensors and JSON in one file, whole or absent. No pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from fitting.avatars import AvatarModel
from fitting.densify import Densifier
from fitting.optimizers import Optimizer
from scene.errors import UserError
from scene.reading import damage, decode_json
from scene.tensor_files import Array, TensorHeader, read_header, read_tensors, save_tensors

_AVATAR, _OPTIMIZER, _DENSIFIER = "avatar.", "optimizer.", "densifier."
_WHAT, _REMEDY = "checkpoint of a fit", "damaged or of another model: remove it to start this fit anew"


@dataclasses.dataclass
class Progress:
    """Where a fit stands. step: iterations done. seconds: time spent in them."""

    step: Annotated[int, Meta(ge=0, le=10**9)] = 0
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0


def save(path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier, progress: Progress) -> None:
    """Writes everything that going on needs."""
    tensors: dict[str, Tensor] = {f"{_AVATAR}{name}": value for name, value in avatar.state_dict().items()}
    names = {id(p): name for name, p in avatar.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{_OPTIMIZER}{names[id(parameter)]}|{key}"] = torch.as_tensor(value)
    tensors |= {f"{_DENSIFIER}{name}": value for name, value in densifier.state().items()}
    save_tensors(path, tensors, {"progress": json.dumps(dataclasses.asdict(progress))})


def load(path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier) -> Progress:
    """Restores a fit in place; the avatar may have another number of Gaussians than the checkpoint.

    Raises UserError when the file is damaged or belongs to another model; nothing is changed then.
    """
    header = read_header(path, _WHAT, remedy=_REMEDY)
    means = header.arrays.get(f"{_AVATAR}per_gaussian.means")
    if means is None or len(means.shape) != 2:
        raise UserError(f"{path}: {_AVATAR}per_gaussian.means: missing, or of another shape; {_REMEDY}")
    progress = decode_json(header.texts.get("progress", ""), Progress, path, _WHAT, _REMEDY)
    declared = avatar.declared(_AVATAR) | _moments(avatar, optimizer, header) | {
        f"{_DENSIFIER}{name}": array for name, array in densifier.declared().items()
    }  # fmt: skip
    tensors = read_tensors(path, _WHAT, declared, {"N": means.shape[0]}, remedy=_REMEDY)
    with damage(path, _WHAT, _REMEDY):
        avatar.resize(means.shape[0])
        avatar.load_state_dict(_part(tensors, _AVATAR))
        _restore_optimizer(avatar, optimizer, _part(tensors, _OPTIMIZER))
        place = next(avatar.parameters()).device
        densifier.load({name: value.to(place) for name, value in _part(tensors, _DENSIFIER).items()})
    return progress


def _moments(avatar: AvatarModel, optimizer: Optimizer, header: TensorHeader) -> dict[str, Array]:
    """What the file must hold of the optimizer: for each parameter that has taken a step, its count and its moments,
    shaped like the parameter. A parameter may have none: no gradient has reached it."""
    named = {id(parameter): name for name, parameter in avatar.named_parameters()}
    parameters, arrays = avatar.declared(), {}
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        name = named[id(parameter)]
        prefix = f"{_OPTIMIZER}{name}|"
        if any(stored.startswith(prefix) for stored in header.arrays):
            arrays[f"{prefix}step"] = Array((), "real", low=0, high=1e9)
            arrays[f"{prefix}exp_avg"] = parameters[name]
            arrays[f"{prefix}exp_avg_sq"] = dataclasses.replace(parameters[name], low=0)
    return arrays


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(avatar: AvatarModel, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(avatar.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        owner, key = name.split("|")
        parameter = parameters[owner]
        # Adam's step counters stay on the CPU unless the optimiser is fused on a GPU; geoopt counts with Python's own.
        plain = key == "step" and hasattr(parameter, "manifold")
        optimizer.state[parameter][key] = int(value) if plain else value.to(parameter.device)
