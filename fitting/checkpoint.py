"""Checkpoints of a fit: safetensors and JSON in one file, whole or absent. No pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from likeness.fitting import optimizer_state
from likeness.fitting.avatars import AvatarModel
from likeness.fitting.densify import Densifier
from likeness.fitting.optimizers import Optimizer
from likeness.scene.errors import UserError
from likeness.scene.reading import damage, decode_json
from likeness.scene.tensor_files import part, read_header, read_tensors, save_tensors

_AVATAR, _DENSIFIER = "avatar.", "densifier."
_WHAT = "checkpoint of a fit"
_REMEDY = "damaged or of another model: remove it to start this fit anew"


@dataclasses.dataclass
class Progress:
    """Where a fit stands. step: iterations done. seconds: time spent in them."""

    step: Annotated[int, Meta(ge=0, le=10**9)] = 0
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0


def save(
    path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier, progress: Progress
) -> None:
    """Writes everything that resuming needs."""
    tensors = {f"{_AVATAR}{name}": value for name, value in avatar.state_dict().items()}
    tensors |= optimizer_state.stored(avatar, optimizer)
    tensors |= {f"{_DENSIFIER}{name}": value for name, value in densifier.state().items()}
    save_tensors(path, tensors, {"progress": json.dumps(dataclasses.asdict(progress))})


def load(path: Path, avatar: AvatarModel, optimizer: Optimizer, densifier: Densifier) -> Progress:
    """Restores a fit in place; the avatar may have another number of Gaussians than the checkpoint.

    Raises UserError when the file is damaged or belongs to another model; nothing is changed then.
    """
    header = read_header(path, _WHAT, remedy=_REMEDY)
    means = header.arrays.get(f"{_AVATAR}per_gaussian.means")
    if means is None or len(means.shape) != 2:
        what = f"{path}: {_AVATAR}per_gaussian.means"
        raise UserError(f"{what}: missing, or of another shape; {_REMEDY}")
    progress = decode_json(header.texts.get("progress", ""), Progress, path, _WHAT, _REMEDY)
    declared = avatar.declared(_AVATAR)
    declared |= optimizer_state.declared(avatar, optimizer, avatar.declared(), header)
    declared |= {f"{_DENSIFIER}{name}": array for name, array in densifier.declared().items()}
    tensors = read_tensors(path, _WHAT, declared, {"N": means.shape[0]}, remedy=_REMEDY)
    with damage(path, _WHAT, _REMEDY):
        avatar.resize(means.shape[0])
        avatar.load_state_dict(part(tensors, _AVATAR))
        optimizer_state.restore(avatar, optimizer, tensors, _counter)
        device = next(avatar.parameters()).device
        sums = part(tensors, _DENSIFIER)
        densifier.load({name: value.to(device) for name, value in sums.items()})
    return progress


def _counter(steps: Tensor, parameter: nn.Parameter) -> int | Tensor:
    """Adam's counters are on the CPU unless the optimiser is fused on a GPU; geoopt counts with
    Python's own."""
    return int(steps) if hasattr(parameter, "manifold") else steps.to(parameter.device)
