"""From a capture to the fits of a run: the expressionless baseline, then the avatar. Both
resume."""

from __future__ import annotations

import dataclasses
import functools
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from likeness.fitting import length, loop, memory, networks
from likeness.fitting.avatars import AvatarModel
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.listeners import JsonLog, ProgressBar, TensorBoardLog
from likeness.fitting.loop import Budget, Listener
from likeness.fitting.perceptual import make_vgg_loss
from likeness.fitting.result import FitResult
from likeness.fitting.run_directory import RunDirectory, versions
from likeness.ops import adam, image_loss, ssim
from likeness.renderers import create
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore

log = logging.getLogger(__name__)

_BASELINE_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """What a fit needs beside its configuration."""

    budget: Budget
    device: str = "cpu"
    seed: int = 0
    weights: Path | None = None
    download: bool = True


def fit_run(
    run: RunDirectory,
    capture: Capture,
    config: FitConfig,
    options: FitOptions,
    watch: Callable[[str], Listener] | None = None,
) -> FitResult:
    """Fits baseline and avatar of a run, resuming what is there, and saves the bundle.

    watch: makes one more listener for each of the two fits, given what it is called. Raises
    FitInterrupted when a signal asked to stop; the state is saved by then. Raises UserError at once
    where the networks' backend was asked for and is not there.
    """
    networks.require(config.networks, options.device)
    memory.keep_pages()
    renderer = create("auto", options.device)
    renderer.warm_up()  # compiles now, not in the middle of the fit
    if options.device == "cpu":
        image_loss.compile_kernels()
        adam.compile_kernels()
    frames = FrameStore(capture, capture.train, options.device)
    chosen = ssim.choose_package(options.device)
    notes: dict[str, str] = {} if chosen is None else {"ssim": chosen.reason}
    perceptual = _perceptual(config, options, notes)
    fit = functools.partial(
        loop.fit, capture, renderer, device=options.device, seed=options.seed, frames=frames
    )
    timed = functools.partial(
        length.timed_step, functools.partial(fit, perceptual=perceptual), config, options.device
    )
    if note := length.announce(config, options.budget, options.device, timed):
        notes["length"] = note
    facts = {
        "seed": options.seed,
        "capture_hash": capture.source_hash,
        "versions": versions(),
        "notes": notes,
        "networks": dataclasses.asdict(config.networks),
    }
    seconds: dict[str, float] = {}
    stop = _StopOnSignal()

    def stage(name: str, text: str, log_name: str, listeners: list[Listener], **arguments: Any):
        """One fit of the run, which can be stopped and resumed; its seconds go into ``seconds``."""
        bar, timer = ProgressBar(text), _Timer()
        listeners = [bar, timer, JsonLog(run.root / log_name), *listeners]
        if watch is not None:
            listeners.append(watch(text))
        try:
            avatar = fit(
                checkpoint_path=run.checkpoint(name),
                listeners=listeners,
                should_stop=stop.requested,
                **arguments,
            )
        finally:
            bar.close()
        memory.release_pages()
        seconds[name] = timer.seconds
        return AvatarBundle.from_fit(avatar.eval(), capture, facts)

    with stop:
        schedule = dataclasses.replace(config.schedule, expressions=False)
        without = dataclasses.replace(config, schedule=schedule)
        text, budget = "fitting without expressions", _scaled(options.budget, _BASELINE_SHARE)
        baseline = stage("baseline", text, "log_baseline.jsonl", [], config=without, budget=budget)
        # Not in memory during the next fit: its bases are as large as the avatar's.
        baseline_folder = run.checkpoint("baseline").with_suffix("")
        baseline.save(baseline_folder)
        del baseline
        memory.release_pages()
        image = _TrainingImage(capture, frames, renderer, config, options.device)
        board = TensorBoardLog(run.root / "tensorboard", image)
        arguments = {"config": config, "budget": options.budget, "perceptual": perceptual}
        bundle = stage("avatar", "fitting the avatar", "log.jsonl", [board], **arguments)
    bundle.save(run.bundle)
    times = {"fit": seconds["avatar"], "baseline": seconds["baseline"]}
    return FitResult(bundle, AvatarBundle.load(baseline_folder), times, notes)


def _scaled(budget: Budget, share: float) -> Budget:
    if budget.iterations is not None:
        return Budget(iterations=max(1, round(budget.iterations * share)))
    return dataclasses.replace(budget, minutes=(budget.minutes or 0.0) * share)


def _perceptual(config: FitConfig, options: FitOptions, notes: dict[str, str]):
    if not config.objective.perceptual:
        return None
    loss = make_vgg_loss(options.weights, options.download, options.device)
    if loss is None:
        notes["perceptual_loss"] = "off: the weights of VGG16 could not be had"
        log.warning(
            "the perceptual loss is off: VGG16's weights are not here (give them with --weights "
            "DIR)"
        )
    return loss


class _TrainingImage:
    """A training frame's truth and rendering side by side, for TensorBoard."""

    def __init__(
        self, capture: Capture, frames: FrameStore, renderer, config: FitConfig, device: str
    ) -> None:
        index = capture.train[len(capture.train) // 2]
        frame = capture.frames[index]
        self._state, self._camera = frame.state.to(device), frame.camera.to(device)
        colour, matte = frames.get(index)
        self._truth = colour * matte + 1 - matte
        self._renderer, self._config = renderer, config

    def __call__(self, avatar: AvatarModel) -> torch.Tensor:
        output, _ = loop.render(avatar, self._renderer, self._state, self._camera, self._config)
        return torch.cat([self._truth, output.over(torch.ones(3, device=self._truth.device))], 1)


class _Timer:
    """Remembers how long a fit took."""

    seconds = 0.0

    def on_step(self, info: loop.StepInfo, avatar: AvatarModel) -> None:
        self.seconds = info.seconds

    def on_end(self, avatar: AvatarModel) -> None:
        return None


class _StopOnSignal:
    """Turns SIGINT and SIGTERM into a request that the loop answers after its current step, with
    its state saved.

    Then the signal is raised again for whoever handled it before.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        return self._number is not None

    def __enter__(self) -> _StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._number is not None:
            raise KeyboardInterrupt  # asked twice: do not wait for the step
        self._number = number

    def __exit__(self, kind: type | None, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is loop.FitInterrupted and self._number is not None:
            signal.raise_signal(self._number)
