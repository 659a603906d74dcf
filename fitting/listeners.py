"""What listens to a fit: a progress bar, a log file, TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.figures import Figures
from likeness.fitting.loop import StepInfo
from likeness.scene.files import write_bytes
from likeness.scene.reading import read_log

_SMOOTHING = 0.05


class ProgressBar:
    """Shows how far the fit is, the PSNR of the training frames (running mean), the Gaussians, and
    the training frames that are taken in a second."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar = None
        self._psnr: float | None = None
        self._unseen: list[Figures] = []
        self._shown = 0.0

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        if self._bar is None:
            self._bar = self._open()
        self._unseen.append(info.figures)
        if not info.figures.ready and info.fraction < 1:
            return
        for psnr in (figures.psnr for figures in self._unseen):
            self._psnr = (
                psnr if self._psnr is None else self._psnr + _SMOOTHING * (psnr - self._psnr)
            )
        self._unseen = []
        if time.monotonic() - self._shown < 0.5 and info.fraction < 1:
            return
        self._shown = time.monotonic()
        self._bar.n = round(100 * info.fraction, 1)
        self._bar.set_postfix_str(
            f"step {info.step}, {info.pictures_per_s:.1f} pictures/s, train {self._psnr:.1f} dB, "
            f"{info.num_gaussians} Gaussians"
        )

    def on_end(self, avatar: AvatarModel) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _open(self):
        from tqdm import tqdm

        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        return tqdm(total=100, desc=self._description, bar_format=layout, mininterval=0.5)


class JsonLog:
    """Appends one JSON object per logged step to a file; a resumed fit drops what lies beyond its
    checkpoint."""

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path, self._every = path, every
        self._file = None

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        if self._file is None:
            self._open(info.step)
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
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _open(self, next_step: int) -> None:
        kept: list[bytes] = []
        if self._path.exists():
            kept = [line for line, entry in read_log(self._path) if entry["step"] < next_step]
        write_bytes(self._path, b"".join(line + b"\n" for line in kept))
        self._file = open(self._path, "a", encoding="utf-8")

    def on_end(self, avatar: AvatarModel) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLog:
    """Writes curves and, now and then, a picture of one training frame beside its truth."""

    def __init__(
        self,
        folder: Path,
        picture: Callable[[AvatarModel], Tensor] | None = None,
        every: int = 20,
        picture_seconds: float = 60.0,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._picture, self._every, self._picture_seconds = picture, every, picture_seconds
        self._next_picture = 0.0

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None:
        if info.step % self._every == 0:
            self._writer.add_scalar("train/loss", info.figures.loss, info.step)
            self._writer.add_scalar("train/psnr", info.figures.psnr, info.step)
            self._writer.add_scalar("gaussians", info.num_gaussians, info.step)
            for name, value in info.figures.terms.items():
                self._writer.add_scalar(f"loss/{name}", value, info.step)
        if self._picture is not None and info.seconds >= self._next_picture:
            self._next_picture = info.seconds + self._picture_seconds
            with torch.no_grad():
                self._writer.add_image(
                    "truth_and_avatar",
                    self._picture(avatar).clamp(0, 1),
                    info.step,
                    dataformats="HWC",
                )

    def on_end(self, avatar: AvatarModel) -> None:
        self._writer.close()
