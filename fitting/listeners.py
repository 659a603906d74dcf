"""What listens to a fit: a progress bar, a log file, TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.figures import Figures
from likeness.fitting.loop import StepInfo
from likeness.scene.files import write_bytes
from likeness.scene.reading import read_log

_SMOOTHING = 0.05


class ProgressBar:
    """Shows progress, the PSNR of the training frames (running mean), their number per second, and
    the number of Gaussians."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar: Any = None
        self._psnr: float | None = None
        self._unread: list[Figures] = []
        self._drawn_s = 0.0

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        self._bar = self._bar if self._bar is not None else self._open()
        self._unread.append(info.figures)
        if not info.figures.ready and info.fraction < 1:
            return
        for psnr in (figures.psnr for figures in self._unread):
            last = psnr if self._psnr is None else self._psnr
            self._psnr = last + _SMOOTHING * (psnr - last)
        self._unread = []
        if time.monotonic() - self._drawn_s < 0.5 and info.fraction < 1:
            return
        self._drawn_s = time.monotonic()
        self._bar.n = round(100 * info.fraction, 1)
        self._bar.set_postfix_str(
            f"step {info.step}, {info.pictures_per_s:.1f} images/s, train {self._psnr:.1f} dB, "
            f"{info.num_gaussians} Gaussians"
        )

    def on_end(self, avatar: AvatarModel) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _open(self) -> Any:
        from tqdm import tqdm

        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        return tqdm(total=100, desc=self._description, bar_format=layout, mininterval=0.5)


class JsonLog:
    """Appends one JSON object per logged step to a file; a resumed fit drops what lies beyond its
    checkpoint."""

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path, self._every = path, every
        self._file: TextIO | None = None

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        file = self._file = self._file or self._open(info.step)
        if info.step % self._every and info.fraction < 1:
            return
        entry = {
            "step": info.step,
            "seconds": round(info.seconds, 3),
            "fraction": round(info.fraction, 5),
            "loss": round(info.figures.loss, 6),
            "psnr": round(info.figures.psnr, 3),
            "num_gaussians": info.num_gaussians,
            "steps_per_s": round(info.step / max(info.seconds, 1e-9), 2),
            "pictures_per_s": round(info.pictures_per_s, 2),
            **{f"loss_{name}": round(value, 6) for name, value in info.figures.terms.items()},
        }
        file.write(json.dumps(entry) + "\n")
        file.flush()

    def _open(self, next_step: int) -> TextIO:
        before: list[bytes] = []
        if self._path.exists():
            before = [line for line, entry in read_log(self._path) if entry["step"] < next_step]
        write_bytes(self._path, b"".join(line + b"\n" for line in before))
        return self._path.open("a", encoding="utf-8")

    def on_end(self, avatar: AvatarModel) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLog:
    """Writes curves and, now and then, an image of one training frame beside its truth."""

    def __init__(
        self,
        folder: Path,
        image: Callable[[AvatarModel], Tensor] | None = None,
        every: int = 20,
        image_every_s: float = 60.0,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._image, self._every, self._image_every_s = image, every, image_every_s
        self._next_image_s = 0.0

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        if info.step % self._every == 0:
            self._writer.add_scalar("train/loss", info.figures.loss, info.step)
            self._writer.add_scalar("train/psnr", info.figures.psnr, info.step)
            self._writer.add_scalar("gaussians", info.num_gaussians, info.step)
            for name, value in info.figures.terms.items():
                self._writer.add_scalar(f"loss/{name}", value, info.step)
        if self._image is not None and info.seconds >= self._next_image_s:
            self._next_image_s = info.seconds + self._image_every_s
            with torch.no_grad():
                image = self._image(avatar).clamp(0, 1)
                self._writer.add_image("truth_and_avatar", image, info.step, dataformats="HWC")

    def on_end(self, avatar: AvatarModel) -> None:
        self._writer.close()
