"""Adam's state in checkpoints: ``optimizer.<parameter>|<key>``, where a key is step, exp_avg or
exp_avg_sq.

A parameter may have none: no gradient has reached it yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from likeness.fitting.optimizers import Optimizer
from likeness.scene.tensor_files import Array, TensorHeader, part

_PREFIX = "optimizer."


def stored(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """What a checkpoint keeps of the optimizer of a module's parameters."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        f"{_PREFIX}{names[id(parameter)]}|{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def declared(
    module: nn.Module, optimizer: Optimizer, arrays: Mapping[str, Array], header: TensorHeader
) -> dict[str, Array]:
    """What a file with this header must hold of it: of each parameter that has taken a step its
    count, and its moments, which are like the parameter. arrays: what that is, by the parameters'
    names."""
    optimised = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    expected: dict[str, Array] = {}
    for name, parameter in module.named_parameters():
        prefix = f"{_PREFIX}{name}|"
        if id(parameter) in optimised and any(other.startswith(prefix) for other in header.arrays):
            expected[f"{prefix}step"] = Array((), "real", low=0, high=1e9)
            expected[f"{prefix}exp_avg"] = arrays[name]
            expected[f"{prefix}exp_avg_sq"] = dataclasses.replace(arrays[name], low=0)
    return expected


def restore(
    module: nn.Module,
    optimizer: Optimizer,
    tensors: Mapping[str, Tensor],
    counter: Callable[[Tensor, nn.Parameter], Any],
) -> None:
    """Puts it back from a checkpoint's tensors. counter: what the optimizer counts a parameter's
    steps with."""
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for name, value in part(tensors, _PREFIX).items():
        owner, key = name.split("|")
        parameter = parameters[owner]
        optimizer.state[parameter][key] = (
            counter(value, parameter) if key == "step" else value.to(parameter.device)
        )
