"""Adam with a group per kind of parameter, learning-rate schedules, and the one function that resizes Gaussians."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from fitting.avatars import AvatarModel


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates at the start and the end of the fit by kind of parameter: a per-Gaussian parameter's name, or the
    first part of a shared one's name. Between the two they fall log-linearly."""

    means: tuple[float, float] = (1.6e-4, 1.6e-6)
    """Metres."""
    log_scales: tuple[float, float] = (5e-3, 5e-3)
    """Logarithms of the standard deviations."""
    quats: tuple[float, float] = (1e-3, 1e-3)
    """Rotations."""
    features: tuple[float, float] = (2.5e-3, 2.5e-3)
    """Features f0 of HeadGaS."""
    basis: tuple[float, float] = (2.5e-3, 2.5e-3)
    """Expression bases F of HeadGaS."""
    base_colors: tuple[float, float] = (2.5e-3, 2.5e-3)
    """Gaussians' own colours, where an avatar has them."""
    base_opacities: tuple[float, float] = (2.5e-2, 2.5e-2)
    """Gaussians' own opacity logits, where an avatar has them."""
    head_logits: tuple[float, float] = (2e-2, 2e-3)
    """Weights between head and body."""
    mlp: tuple[float, float] = (1e-3, 1e-4)
    """Networks that give appearance."""
    anchoring: tuple[float, float] = (1e-3, 1e-4)
    """Pose correction; 1 is 0.1 rad or 1 cm."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its learning rates."""

    rates: Rates = Rates()
    """Start and end by kind of parameter."""
    epsilon: float = 1e-15
    """Adam's epsilon; per-Gaussian gradients are tiny."""


def make_optimizer(avatar: AvatarModel, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam with one named group per kind of parameter."""
    kinds: dict[str, list[nn.Parameter]] = {}
    for name, parameter in avatar.per_gaussian.items():
        if parameter.requires_grad:
            kinds[name] = [parameter]
    for name, parameter in avatar.shared_parameters().items():
        kinds.setdefault(name.split(".")[0], []).append(parameter)
    groups = [
        {"params": parameters, "kind": kind, "lr": getattr(config.rates, kind)[0]}
        for kind, parameters in kinds.items()
    ]
    return torch.optim.Adam(groups, eps=config.epsilon, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, config: OptimizerConfig, progress: float) -> None:
    """Sets every group's learning rate for a progress in [0, 1]."""
    for group in optimizer.param_groups:
        start, end = getattr(config.rates, group["kind"])
        if start <= 0 or end <= 0:
            group["lr"] = start + (end - start) * progress
        else:
            group["lr"] = math.exp(math.log(start) * (1 - progress) + math.log(end) * progress)


@dataclasses.dataclass(frozen=True)
class Surgery:
    """A new set of Gaussians in terms of the old one; says everything that cloning, splitting and pruning can do.

    source: [N'] the old Gaussian that each new one is made from.
    fresh: [N'] bool, those that start without momentum (copies); the others keep theirs.
    overrides: new values [N', ...] of single parameters, by name.
    """

    source: Tensor
    fresh: Tensor
    overrides: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def operate(avatar: AvatarModel, optimizer: torch.optim.Optimizer, surgery: Surgery) -> None:
    """Resizes every per-Gaussian parameter together with its optimiser's state. The only place that does so.

    Children inherit all parameters of their source, unless overridden. Raises ValueError for an empty result or an
    override of an unknown parameter.
    """
    if len(surgery.source) == 0:
        raise ValueError("surgery would leave no Gaussians")
    unknown = set(surgery.overrides) - set(avatar.per_gaussian)
    if unknown:
        raise ValueError(f"surgery overrides parameters that the avatar does not have: {sorted(unknown)}")
    groups = {id(group["params"][0]): group for group in optimizer.param_groups}
    for name, old in list(avatar.per_gaussian.items()):
        value = surgery.overrides.get(name)
        data = old.detach()[surgery.source] if value is None else value.detach().to(old)
        new = _like(old, data)
        state = optimizer.state.pop(old, {})
        for key, moment in state.items():
            if isinstance(moment, Tensor) and moment.shape == old.shape:
                moment = moment[surgery.source]
                moment[surgery.fresh] = 0
                state[key] = moment
        if state:
            optimizer.state[new] = state
        if id(old) in groups:  # what is not optimised has no group
            groups[id(old)]["params"] = [new]
        avatar.per_gaussian[name] = new


def _like(old: nn.Parameter, data: Tensor) -> nn.Parameter:
    """A parameter of the old one's class; manifold parameters keep their manifold."""
    manifold = getattr(old, "manifold", None)
    if manifold is not None:
        return type(old)(data.clone(), manifold=manifold)
    return nn.Parameter(data.clone(), requires_grad=old.requires_grad)
