"""How long a fit lasts, and what is announced before it starts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.config import FitConfig
from likeness.fitting.loop import Budget, StepInfo
from likeness.scene.config_files import presets

log = logging.getLogger(__name__)

_READ_EVERY = 10  # steps after which the time of a GPU's is known
_SHORT_PRESETS = ("default", "{avatar}-plus")
_HOW = "steps of {:.2g} s, timed just now; later ones are slower, as Gaussians are added"


def budget_of(
    config: FitConfig, device: str, minutes: float | None, iterations: int | None
) -> Budget:
    """The length of a fit: as asked for; else the preset's own iterations, on a CPU its own
    minutes, if any (said)."""
    if minutes is not None or iterations is not None:
        return Budget(minutes, iterations)
    if device == "cpu" and config.schedule.cpu_minutes > 0:
        log.info(
            "no CUDA here: fitting for %g minutes instead of %d iterations (--minutes or "
            "--iterations say otherwise)",
            config.schedule.cpu_minutes,
            config.schedule.iterations,
        )
        return Budget(minutes=config.schedule.cpu_minutes)
    return Budget(iterations=config.schedule.iterations)


def announce(
    config: FitConfig, budget: Budget, device: str, step_seconds: Callable[[], float]
) -> str | None:
    """Says in one line, and returns, that a fit is too short for its preset, or how long one of
    full length will take on a CPU; None where there is nothing to say. step_seconds: measures a
    step; called only where that is needed."""
    needed, full = config.schedule.min_iterations, config.schedule.iterations
    if needed == 0:
        return None
    if budget.minutes is not None:
        seconds = step_seconds()
        steps = round(budget.minutes * 60 / seconds)
        given = (
            f"{budget.minutes:g} minutes are about {steps} iterations here "
            f"({_HOW.format(seconds)}), which are"
        )
    else:
        steps = budget.iterations or full
        given = f"{steps} iterations are"
    if steps < needed:
        line = (
            f"{given} too few for this preset: it needs {needed} and is made for {full}, so expect "
            f"fog; for short fits take {_alternatives(config)}"
        )
        log.warning("%s", line)
        return line
    if budget.minutes is not None or device != "cpu":
        return None
    seconds = step_seconds()
    line = (
        f"{steps} iterations will take about {_duration(steps * seconds)} here "
        f"({_HOW.format(seconds)}); Ctrl-C stops and keeps what is done, --resume continues; "
        "--minutes or --iterations make a shorter fit"
    )
    log.info("%s", line)
    return line


def timed_step(fit: Callable[..., AvatarModel], config: FitConfig, device: str) -> float:
    """Seconds of a step, from some that are spread over the whole course of a fit which is then
    thrown away.

    fit: ``loop.fit`` with everything given but config, budget and listeners.
    """
    clock, count = _Clock(), 6 if device == "cpu" else 2 * _READ_EVERY
    fit(config=config, budget=Budget(iterations=count), listeners=[clock])
    # what the first ones wait for, they wait for once
    before = 1 if device == "cpu" else _READ_EVERY
    return (clock.seconds[-1] - clock.seconds[before - 1]) / (count - before)


class _Clock:
    """Remembers when each step of a fit ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        self.seconds.append(info.seconds)

    def on_end(self, avatar: AvatarModel) -> None:
        return None


def _alternatives(config: FitConfig) -> str:
    known, wanted = presets(), (text.format(avatar=config.avatar) for text in _SHORT_PRESETS)
    return " or ".join(f"--preset {name}" for name in wanted if name in known)


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{max(seconds / 60, 1):.0f} minutes"
