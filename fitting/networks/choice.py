"""Chooses what evaluates an avatar's networks in playback: the faster backend, where both give the
same."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from likeness.fitting.avatars import FrozenAvatar
from likeness.fitting.avatars.base import Network
from likeness.fitting.networks.fused import INSTALL, FusedMLP, why_not
from likeness.fitting.networks.layout import UnsupportedNetwork
from likeness.scene.bounds import Share
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState
from likeness.scene.reading import convert

log = logging.getLogger(__name__)

_WARM_UPS, _REPEATS = 3, 20
Backend = Literal["auto", "torch", "tinycudann"]


@dataclasses.dataclass(frozen=True)
class NetworksConfig:
    """What evaluates the avatar's networks once it is fitted. Fits themselves learn by PyTorch,
    whatever this says."""

    backend: Backend = "auto"
    """In playback and measuring on CUDA, never in the fit itself. torch: PyTorch, in float32.
    tinycudann: fully fused networks of tiny-cuda-nn, in half precision, wherever they can be and
    give the same. auto: of these two the faster, where that package is."""
    tolerance: Share = 0.01
    """Most that a fully fused network may differ, as a share of its largest output; else it stays
    in PyTorch."""

    @classmethod
    def of_bundle(cls, facts: Mapping[str, Any]) -> NetworksConfig:
        """What the fit of a bundle with these facts asked for; the defaults where it says nothing.
        Raises UserError."""
        what = "manifest of an avatar: networks"
        return convert(facts.get("networks", {}), cls, what, "export the avatar again")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What evaluates one network, or a whole avatar.

    backend: torch, tinycudann, or for an avatar graph. reason: for people. milliseconds: by
    backend, where both were timed. difference: the largest, as a share of the largest output, where
    both were evaluated. evaluator: None for PyTorch.
    """

    backend: str
    reason: str
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    difference: float | None = None
    evaluator: Network | None = None


def require(config: NetworksConfig, device: torch.device | str) -> None:
    """Raises UserError where ``tinycudann`` was asked for and is not there."""
    if config.backend == "tinycudann" and (reason := why_not(device)):
        raise UserError(f"networks.backend=tinycudann: {reason}; {_remedy(device)}")


def _remedy(device: torch.device | str) -> str:
    on_cuda = torch.device(device).type == "cuda"
    install = f"install it ({INSTALL}, with a CUDA toolkit), or " if on_cuda else ""
    return f"{install}set networks.backend=auto"


def settle(wished: NetworksConfig, device: torch.device | str) -> NetworksConfig:
    """What of a wish can be met on a device; where ``tinycudann`` cannot, a warning says so, once
    for each reason."""
    if wished.backend == "torch" or not (reason := why_not(device)):
        return wished
    if wished.backend == "tinycudann":
        _warn_once(
            "networks are evaluated by PyTorch, not by tinycudann as the avatar's fit asked for: "
            + reason
        )
    return dataclasses.replace(wished, backend="torch")


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


@torch.no_grad()
def choose(
    network: nn.Module,
    inputs: list[Tensor],
    config: NetworksConfig,
    time_of: Callable[[Network | None], float],
) -> Choice:
    """Chooses what evaluates a network on its device for such inputs [N, *], real ones: they decide
    what half precision does to it.

    time_of: the milliseconds that an evaluation takes with an evaluator, None for PyTorch. Raises
    UserError where tiny-cuda-nn fails and was asked for.
    """
    try:
        fused = FusedMLP(network)
        outputs, expected = fused(inputs), network(torch.cat(inputs, -1))
    except UnsupportedNetwork as error:
        return Choice("torch", str(error))
    except RuntimeError as error:
        reason = f"tinycudann fails ({' '.join(str(error).split())})"
        if config.backend == "tinycudann":
            remedy = "set networks.backend=torch"
            raise UserError(f"networks.backend=tinycudann: {reason}; {remedy}") from error
        return Choice("torch", reason)
    difference = largest_difference(outputs, expected)
    if not difference <= config.tolerance:  # NaN neither
        reason = f"half precision would change it by {difference:.2g}"
        return Choice("torch", reason, difference=difference)

    times = {"torch": time_of(None), "tinycudann": time_of(fused)}
    if config.backend == "auto" and times["tinycudann"] >= times["torch"]:
        return Choice("torch", "not slower", times, difference)
    reason = "as asked for" if config.backend == "tinycudann" else "faster"
    return Choice("tinycudann", reason, times, difference, fused)


def largest_difference(value: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected magnitude; infinite where a value
    is not finite."""
    if expected.numel() == 0:
        return 0.0
    if not torch.isfinite(value).all():
        return float("inf")
    return float((value - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def milliseconds(
    run: Callable[[], Any], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The least time of several runs, with the device waited for."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(_WARM_UPS):
        run()
    times = []
    for _ in range(_REPEATS):
        wait()
        begun = clock()
        run()
        wait()
        times.append(clock() - begun)
    return 1000 * min(times)


@torch.no_grad()
def choose_for(
    avatar: FrozenAvatar,
    state: HeadState,
    eye: Tensor,
    config: NetworksConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[FrozenAvatar, dict[str, Choice]]:
    """Chooses what evaluates the networks of an avatar: the avatar that is evaluated so, and the
    choices by the networks' names.

    Networks are compared at the inputs that they have at this state, and timed as parts of the
    avatar's evaluation.
    """
    networks = {} if config.backend == "torch" else avatar.model.networks()
    if not networks:
        return avatar, {}
    choices: dict[str, Choice] = {}
    inputs: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> Network:
        def evaluate(parts: list[Tensor]) -> Tensor:
            inputs[name] = [part.clone() for part in parts]
            return networks[name](torch.cat(parts, -1))

        return evaluate

    avatar.with_networks({name: recorder(name) for name in networks})(state, eye)
    for name, network in networks.items():

        def time_of(evaluator: Network | None, name: str = name, avatar=avatar) -> float:
            tried = avatar if evaluator is None else avatar.with_networks({name: evaluator})
            return milliseconds(lambda: tried(state, eye), eye.device, clock)

        choices[name] = choose(network, inputs.get(name, []), config, time_of)
        if (chosen := choices[name].evaluator) is not None:
            avatar = avatar.with_networks({name: chosen})
    log.info("networks: %s", describe(choices))
    return avatar, choices


def describe(choices: Mapping[str, Choice]) -> str:
    """Choices in one line, for people and for the run's notes."""
    texts = []
    for name, choice in choices.items():
        text = f"{name} by {choice.backend} ({choice.reason}"
        if choice.milliseconds:
            times = sorted((took, name) for name, took in choice.milliseconds.items())
            text += ": " + ", ".join(f"{took:.3g} ms with {name}" for took, name in times)
        if choice.milliseconds and choice.difference is not None:
            text += f"; largest difference {choice.difference:.2g} of the largest output"
        texts.append(text + ")")
    return "; ".join(texts)
