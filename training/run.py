"""What a training program needs around the loop: the trainer made ready, signals, the file of
weights."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import torch

from likeness.fitting import memory
from likeness.fitting.perceptual import make_vgg_loss
from likeness.fitting.run_directory import code_version
from likeness.one_shot import weights
from likeness.ops import image_loss
from likeness.renderers import create
from likeness.scene.errors import UserError
from likeness.training.config import TrainConfig
from likeness.training.processes import Processes
from likeness.training.trainer import Trainer

log = logging.getLogger(__name__)


def set_up(
    config: TrainConfig,
    roots: list[Path],
    device: torch.device,
    seed: int,
    processes: Processes,
    folder: Path | None,
    download: bool,
) -> Trainer:
    """A trainer with everything compiled and every published network in its place.

    folder, download: as ``likeness.preprocess.weights.find`` takes them. Raises UserError where a
    backbone's weights are missing or ``start`` and ``trained`` do not fit the model.
    """
    if config.trained == "refiner" and (config.start is None or not config.model.refiner.enabled):
        needed = (
            "start=FILE, weights for all else"
            if config.start is None
            else "model.refiner.enabled=true"
        )
        raise UserError(f"trained=refiner: needs {needed}; set it, too")
    memory.keep_pages()
    if device.type == "cuda" and processes.count > 1:
        torch.cuda.set_device(processes.local_rank)
        device = torch.device("cuda", processes.local_rank)
    renderer = create("auto", str(device))
    renderer.warm_up()
    if device.type == "cpu":
        image_loss.compile_kernels()
    perceptual = make_vgg_loss(folder, download, device) if config.loss.perceptual else None
    if config.loss.perceptual and perceptual is None:
        log.warning(
            "the perceptual loss is off: VGG16's weights are not here (give them with --weights "
            "DIR)"
        )
    trainer = Trainer(config, roots, renderer, device, seed, processes, perceptual)
    if config.model.backbone.kind == "dinov2":
        weights.load_published(trainer.network, folder, download)
        trainer.restart_average()
    if config.start is not None:
        weights.start_from(config.start, trainer.network, trainer.head_model)
        trainer.restart_average()
    return trainer


def write_weights(path: Path, trainer: Trainer) -> None:
    """The moving average as a file of weights, with what it was trained on in its header."""
    progress = trainer.progress
    facts: dict[str, Any] = {
        "captures": len(trainer.samples.roots),
        "steps": progress.step,
        "sources": progress.samples,
        "seconds": round(progress.seconds),
        "code": code_version(),
        "perceptual": trainer.perceptual is not None,
    }
    if trainer.config.start is not None:
        facts |= {"start": trainer.config.start.name, "trained": trainer.config.trained}
    weights.save(path, trainer.average, trainer.config.model, trainer.head_model, facts)


class StopOnSignal:
    """Turns SIGINT and SIGTERM into a request that the loop answers after its step, with its state
    saved."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        return self._asked

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: Any) -> None:
        signal.signal(number, self._before[number])  # a second one ends the program at once
        self._asked = True
