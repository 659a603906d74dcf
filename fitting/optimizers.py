"""Adam with a group per kind of parameter, learning-rate schedules, and the one function that
resizes Gaussians."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import MutableMapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from likeness.fitting.avatars import AvatarModel
from likeness.ops.adam import make_adam
from likeness.scene.bounds import Share


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, for all parameters; their learning rates belong to the avatar."""

    epsilon: Share = 1e-15
    """Adam's epsilon; per-Gaussian gradients are tiny."""


class Optimizer(Protocol):
    """What fits need of an optimizer, as PyTorch's have it."""

    @property
    def state(self) -> MutableMapping[Tensor, dict[str, Any]]: ...

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> Any: ...


class JointOptimizer:
    """Optimizers that step as one, such as Adam for flat parameters and Riemannian Adam for those
    on a manifold. They share one ``state``, by parameter, and their groups are listed together."""

    def __init__(self, *parts: Any) -> None:
        self._parts, self.state = parts, parts[0].state
        for part in parts[1:]:
            part.state = self.state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self._parts:
            part.step()


class SlowHarmonics:
    """An optimizer, of whose steps the view-dependent harmonics of Gaussians' own colours take a
    share: as if they had a learning rate of their own, which Adam's steps are proportional to.

    A clip shows each Gaussian from a few directions: what makes it another colour in each frame
    makes it a wrong one from elsewhere. Kerbl et al. (2023) take a twentieth, too.
    """

    def __init__(self, inner: Optimizer, share: float) -> None:
        self._inner, self._share = inner, share

    @property
    def state(self) -> MutableMapping[Tensor, dict[str, Any]]:
        return self._inner.state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._inner.zero_grad(set_to_none)

    def step(self) -> None:
        groups = [group for group in self.param_groups if group["kind"] == "base_colors"]
        harmonics = [p.detach()[:, 1:] for group in groups for p in group["params"]]
        before = [values.clone() for values in harmonics]
        self._inner.step()
        for values, old in zip(harmonics, before):
            values.copy_(torch.lerp(old, values, self._share))


def make_optimizer(avatar: AvatarModel, config: OptimizerConfig) -> Optimizer:
    """Adam with one named group per kind of parameter: a per-Gaussian one's name, or the first part
    of a shared one's.

    What the avatar names in ``spherical`` becomes a geoopt.ManifoldParameter on the unit sphere of
    its last dimension and is optimised by Riemannian Adam (Bécigneul and Ganea, 2019), which steps
    along the exponential map, so that it keeps its length, and carries its momentum along the
    sphere.
    """
    _to_sphere(avatar)
    kinds: dict[str, list[nn.Parameter]] = {}
    for name, parameter in avatar.per_gaussian.items():
        if parameter.requires_grad:
            kinds[name] = [parameter]
    for name, parameter in avatar.shared_parameters().items():
        kinds.setdefault(name.split(".")[0], []).append(parameter)
    flat, curved = [], []
    for kind, parameters in kinds.items():
        rates = getattr(avatar.config.rates, kind)
        linear = kind in avatar.config.rates.linear or min(rates) <= 0
        settings = {"kind": kind, "lr": rates[0], "rates": rates, "linear": linear}
        (curved if kind in avatar.spherical else flat).append({"params": parameters, **settings})
    means = avatar.per_gaussian["means"]
    adam = make_adam(flat, means.device, means.dtype, config.epsilon)
    share = getattr(avatar.config.rates, "harmonics", 1.0)
    if share < 1 and "base_colors" in kinds:
        return SlowHarmonics(adam, share)
    if not curved:
        return adam
    from geoopt.optim import RiemannianAdam

    return JointOptimizer(adam, RiemannianAdam(curved, lr=curved[0]["lr"], eps=config.epsilon))


def _to_sphere(avatar: AvatarModel) -> None:
    if not avatar.spherical:
        return
    import warnings

    # geoopt scripts functions as it is imported, which PyTorch now advises against
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import geoopt

    for name in avatar.spherical:
        flat = avatar.per_gaussian[name]
        if not isinstance(flat, geoopt.ManifoldParameter):
            sphere = geoopt.SphereExact()
            projected = sphere.projx(flat.detach())
            avatar.per_gaussian[name] = geoopt.ManifoldParameter(
                projected,
                manifold=sphere,  # pyright: ignore[reportCallIssue]
            )


def set_rates(optimizer: Optimizer, progress: float, factor: float = 1.0) -> None:
    """Sets every group's learning rate for a progress in [0, 1], times ``factor``: linear or
    log-linear from start to end, as the group says."""
    for group in optimizer.param_groups:
        start, end = group["rates"]
        if group["linear"]:
            rate = start + (end - start) * progress
        else:
            rate = math.exp(math.log(start) * (1 - progress) + math.log(end) * progress)
        group["lr"] = rate * factor


@dataclasses.dataclass(frozen=True)
class Surgery:
    """A new set of Gaussians in terms of the old one; says everything that cloning, splitting and
    pruning can do.

    source: [N'] the old Gaussian that each new one is made from.
    fresh: [N'] bool, those that start without momentum (copies); the others keep theirs.
    overrides: new values [N', ...] of single parameters, by name.
    """

    source: Tensor
    fresh: Tensor
    overrides: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def operate(avatar: AvatarModel, optimizer: Optimizer, surgery: Surgery) -> None:
    """Resizes every per-Gaussian parameter together with its optimiser's state. The only place that
    does so.

    Children inherit all parameters of their source, unless overridden. Raises ValueError for an
    empty result or an override of an unknown parameter.
    """
    if len(surgery.source) == 0:
        raise ValueError("surgery would leave no Gaussians")
    if unknown := set(surgery.overrides) - set(avatar.per_gaussian):
        raise ValueError(f"surgery overrides unknown parameters: {sorted(unknown)}")
    groups = {id(group["params"][0]): group for group in optimizer.param_groups}
    for name, old in list(avatar.per_gaussian.items()):
        value = surgery.overrides.get(name)
        data = old.detach()[surgery.source] if value is None else value.detach().to(old)
        new = _like(old, data)
        state = optimizer.state.pop(old, {})
        for key, moment in state.items():
            if isinstance(moment, Tensor) and moment.shape == old.shape:
                moment = moment[surgery.source]
                # On a sphere children stand where their parent stands: its momentum is tangent
                # there too.
                if name not in avatar.spherical:
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
    if manifold is None:
        return nn.Parameter(data.clone(), requires_grad=old.requires_grad)
    return type(old)(data.clone(), manifold=manifold)  # pyright: ignore[reportCallIssue]
