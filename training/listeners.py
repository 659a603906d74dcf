"""What watches a training run: a bar, a log of JSON lines, TensorBoard with images."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from likeness.scene.image_files import save_image
from likeness.training.mosaic import mosaic
from likeness.training.trainer import Trainer, TrainInfo

_LOG_EVERY = 20  # steps


class ProgressBar:
    """Percent of the run with loss and speed."""

    def __init__(self) -> None:
        from tqdm import tqdm

        form = "{desc} {percentage:3.0f}%|{bar}| {postfix}"
        self._bar = tqdm(total=100.0, desc="training", disable=None, bar_format=form)

    def on_step(self, info: TrainInfo, trainer: Trainer) -> None:
        self._bar.n = 100 * info.fraction
        if info.step % _LOG_EVERY == 0 or info.fraction >= 1:
            self._bar.set_postfix_str(
                f"step {info.step}, loss {info.loss:.4f}, {info.samples_per_s:.2f} samples/s"
            )

    def close(self) -> None:
        self._bar.close()


class JsonLog:
    """One line every few steps: means since the last one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._sums: dict[str, float] = {}
        self._count = 0

    def on_step(self, info: TrainInfo, trainer: Trainer) -> None:
        for name, value in {"loss": info.loss, **info.terms}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if info.step % _LOG_EVERY == 0 or info.fraction >= 1:
            means = {name: round(value / self._count, 6) for name, value in self._sums.items()}
            facts = {
                "step": info.step,
                "seconds": round(info.seconds, 1),
                "rate": info.rate,
                "samples_per_s": round(info.samples_per_s, 3),
            }
            self._file.write(json.dumps({**facts, **means}) + "\n")
            self._sums, self._count = {}, 0

    def close(self) -> None:
        self._file.close()


class TensorBoardLog:
    """Curves, and now and then the mosaic of a few fixed samples, as the moving average of the
    weights shows them.

    The newest image is also kept as ``latest.png`` beside the log.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer, self._folder, self._every = SummaryWriter(str(folder)), folder, every_s
        self._drawn = time.monotonic()

    def on_step(self, info: TrainInfo, trainer: Trainer) -> None:
        if info.step % _LOG_EVERY == 0:
            for name, value in {"loss": info.loss, "rate": info.rate, **info.terms}.items():
                self._writer.add_scalar(name, value, info.step)
        if time.monotonic() - self._drawn > self._every or info.fraction >= 1:
            image = averaged_mosaic(trainer)
            self._writer.add_image(
                "source, then target and prediction", image, info.step, dataformats="HWC"
            )
            _write(self._folder / "latest.png", image)
            self._drawn = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def averaged_mosaic(trainer: Trainer, count: int = 3) -> torch.Tensor:
    """``mosaic`` of samples that no step takes, by the moving average; the network keeps its own
    weights."""
    batch = [trainer.samples[2**30 + k] for k in range(count)]
    batch = [sample for sample in batch if len(sample.inputs.points) == len(batch[0].inputs.points)]
    own = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    try:
        trainer.network.load_state_dict(trainer.average)
        with torch.no_grad():
            predictions = trainer.predict(batch)
            samples = [trainer.on_device(sample) for sample in batch]
            return mosaic(samples, predictions, trainer.renderer, trainer.network.refiner)
    finally:
        trainer.network.load_state_dict(own)


def _write(path: Path, image: torch.Tensor) -> None:
    save_image(path, (image.flip(-1).numpy() * 255).round().astype("uint8"))
