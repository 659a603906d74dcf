"""The training loop. It resumes, stops on request with its state saved, and takes part in
torchrun."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from likeness.fitting.loop import Budget
from likeness.one_shot.inputs import NetworkInputs
from likeness.one_shot.network import OneShotNetwork, is_of_refiner
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.queries import make_queries
from likeness.renderers import Renderer
from likeness.scene.config_files import to_dict
from likeness.training import checkpoint
from likeness.training.checkpoint import Progress
from likeness.training.config import TrainConfig
from likeness.training.objective import sample_loss
from likeness.training.processes import Processes
from likeness.training.samples import Sample, Samples

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainInfo:
    """What listeners hear after a step. rate: the learning rate. samples_per_s: sources, over the
    run so far."""

    step: int
    fraction: float
    seconds: float
    loss: float
    terms: dict[str, float]
    rate: float
    samples_per_s: float


class Listener(Protocol):
    """Hears of the training; changes nothing. ``average`` holds the weights that will be kept."""

    def on_step(self, info: TrainInfo, trainer: Trainer) -> None: ...


class TrainingStopped(KeyboardInterrupt):
    """Stopped by a signal after the state was saved."""


class Trainer:
    """One training run: the network, its moving average, the optimizer and the samples."""

    def __init__(
        self,
        config: TrainConfig,
        roots: list[Path],
        renderer: Renderer,
        device: torch.device | str = "cpu",
        seed: int = 0,
        processes: Processes = Processes(),
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        """roots: captures. perceptual: the VGG loss, when there is one. Raises UserError as
        ``Samples`` does, and where the batch cannot be shared by the processes."""
        if config.batch % processes.count:
            raise ValueError(
                f"batch: expected a multiple of {processes.count} processes, got {config.batch}"
            )
        self.config, self.renderer, self.device = config, renderer, torch.device(device)
        self.processes, self.perceptual, self.seed = processes, perceptual, seed
        self.samples = Samples(roots, config, seed, config.batch * config.accumulate)
        torch.manual_seed(seed)
        self.head_model = self.samples.capture(0).head_model
        vertices = len(
            make_queries(self.head_model, config.model.queries, config.model.tokens).model.template
        )
        self.network = OneShotNetwork(config.model, vertices).to(self.device)
        if config.trained == "refiner":
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(is_of_refiner(name))
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=config.rate, weight_decay=config.weight_decay
        )
        self.progress = Progress()
        self.restart_average()

    def restart_average(self) -> None:
        """Starts the moving average at the network's weights."""
        self.average = {
            name: value.detach().clone() for name, value in self.network.state_dict().items()
        }

    @property
    def kind(self) -> str:
        """What a checkpoint must agree with."""
        model = to_dict(self.config.model)
        if not self.config.model.refiner.enabled:
            del model["refiner"]  # as checkpoints say that know of none
        if self.config.model.place_code == 1:
            del model["place_code"]
        kind = model if self.config.trained == "all" else {**model, "trained": self.config.trained}
        return json.dumps(kind, sort_keys=True)

    def train(
        self,
        budget: Budget,
        path: Path | None = None,
        listeners: Sequence[Listener] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains until the budget is spent; resumes from ``path`` where it exists and saves there.

        Raises TrainingStopped when ``should_stop`` said so, with the state saved, and
        FloatingPointError when the loss is not finite (the last checkpoint stays).
        """
        if path is not None and path.exists():
            self.progress = checkpoint.load(
                path, self.network, self.average, self.optimizer, self.kind
            )
            log.info("resuming from step %d", self.progress.step)
        saved, loader = time.monotonic(), self._loader(budget)
        while (fraction := self.processes.agree(budget.fraction(self.progress))) < 1:
            if self.processes.agree(float(should_stop())):
                self.save(path)
                raise TrainingStopped
            started = time.monotonic()
            rate = self._rate(fraction)
            loss, terms = self.step(loader, rate, fraction)
            if not math.isfinite(loss):
                raise FloatingPointError(f"step {self.progress.step}: the loss is {loss}")
            self.progress.step += 1
            self.progress.samples += self.config.batch * self.config.accumulate
            self.progress.seconds += time.monotonic() - started
            info = TrainInfo(
                self.progress.step,
                budget.fraction(self.progress),
                self.progress.seconds,
                loss,
                terms,
                rate,
                self.progress.samples / max(self.progress.seconds, 1e-9),
            )
            for listener in listeners:
                listener.on_step(info, self)
            if time.monotonic() - saved > self.config.save_every_s:
                self.save(path)
                saved = time.monotonic()
        self.save(path)

    def step(self, loader: Any, rate: float, fraction: float) -> tuple[float, dict[str, float]]:
        """One update; the loss and its terms, means over this process's samples."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        share = self.config.batch // self.processes.count
        sums: dict[str, float] = {}
        total = 0.0
        for _ in range(self.config.accumulate):
            batch = [next(loader) for _ in range(share)]
            loss, terms = self.loss(batch, 2 if fraction < self.config.half_until else 1)
            (loss / self.config.accumulate).backward()
            total += float(loss.detach()) / self.config.accumulate
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / self.config.accumulate
        self.processes.sum_gradients(self.network)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self._follow()
        return total, sums

    def loss(self, batch: list[Sample], divisor: int) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of samples that share their queries."""
        total, sums = torch.zeros((), device=self.device), {}
        for sample, prediction in zip(batch, self.predict(batch)):
            generator = torch.Generator().manual_seed(int(sample.inputs.image.sum()) & 0xFFFF)
            background = torch.rand(3, generator=generator).to(self.device)
            loss, terms = sample_loss(
                prediction,
                self.on_device(sample),
                self.renderer,
                self.config.loss,
                background,
                divisor,
                self.perceptual,
                self.network.refiner,
            )
            total = total + loss / len(batch)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(batch)
        return total, sums

    def predict(self, batch: list[Sample]) -> list[Prediction]:
        """The network's answers to the samples' sources."""
        model, count = self.config.model, len(batch[0].inputs.points)
        surface = make_queries(self.head_model, model.queries, model.tokens)
        surface = (surface if count == len(surface) else surface.first(count)).to(self.device)
        view = NetworkInputs.stack([sample.inputs for sample in batch]).to(self.device)
        logits = torch.stack([sample.head_logits for sample in batch]).to(self.device)
        with torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.config.mixed_precision and self.device.type == "cuda",
        ):
            return self.network(view, surface, logits)

    def on_device(self, sample: Sample) -> Sample:
        """The sample where the network is."""
        if self.device.type == "cpu":
            return sample
        return Sample(
            **{f.name: getattr(sample, f.name).to(self.device) for f in dataclasses.fields(sample)}
        )

    def save(self, path: Path | None) -> None:
        """Writes the checkpoint, in the first process alone."""
        if path is not None and self.processes.first:
            checkpoint.save(
                path, self.network, self.average, self.optimizer, self.progress, self.kind
            )

    def _follow(self) -> None:
        # Early on the average follows closely, or it would remember the start for ever.
        decay = min(self.config.ema, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    def _rate(self, fraction: float) -> float:
        warm = min((self.progress.step + 1) / max(self.config.warm_up, 1), 1.0)
        return (
            self.config.rate
            * warm
            * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0))))
        )

    def _loader(self, budget: Budget):
        """This process's samples, in the order of their numbers from where the run stands."""
        share, first = self.config.batch // self.processes.count, self.progress.samples
        mine = _Numbers(first, self.config.batch, self.processes.rank * share, share)
        workers = self.config.data.workers
        if workers == 0:
            return (self.samples[number] for number in mine)
        loader = torch.utils.data.DataLoader(
            self.samples, None, sampler=mine, num_workers=workers, persistent_workers=True
        )
        return iter(loader)


class _Numbers:
    """Sample numbers without end: of every batch those from ``offset``, ``share`` of them."""

    def __init__(self, first: int, batch: int, offset: int, share: int) -> None:
        self.first, self.batch, self.offset, self.share = first, batch, offset, share

    def __iter__(self):
        start = self.first
        while True:
            yield from range(start + self.offset, start + self.offset + self.share)
            start += self.batch

    def __len__(self) -> int:
        return 2**31
