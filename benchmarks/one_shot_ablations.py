"""Short trainings of the one-shot network with one thing changed, measured on people that they do
not see."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from likeness.fitting import metrics
from likeness.renderers import create

_HELD_OUT = 0.1  # of the captures, the last ones by name
_SAMPLES = 24


def train_and_measure(folder: Path, settings: tuple[str, ...], minutes: float) -> dict[str, Any]:
    """Mean PSNR and SSIM of targets on white after a training, its steps and sources per second."""
    from likeness.fitting.loop import Budget
    from likeness.one_shot.prediction import refinement
    from likeness.scene.config_files import CONFIGS, load_preset
    from likeness.training.config import TrainConfig
    from likeness.training.processes import Processes
    from likeness.training.run import set_up
    from likeness.training.samples import Samples, find_captures

    config = load_preset("embedded", TrainConfig, settings, CONFIGS / "one_shot")
    roots = find_captures([folder])
    kept = max(round(len(roots) * _HELD_OUT), 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = set_up(config, roots[:-kept], device, 0, Processes(), None, False)
    trainer.train(Budget(minutes=minutes))
    trainer.network.load_state_dict(trainer.average)
    held, renderer, rows = Samples(roots[-kept:], config, 1, 1), create("auto", str(device)), []
    for number in range(_SAMPLES):
        sample = trainer.on_device(held[number])
        with torch.no_grad():
            (prediction,) = trainer.predict([sample])
            refine = refinement(trainer.network.refiner, prediction)
            for t in range(len(sample.colours)):
                cloud = prediction.posed(sample.displacements[t], sample.T_head_body[t])
                output = renderer.render(cloud, sample.cameras[t])
                if refine is not None:
                    output = refine(output, renderer, cloud, sample.cameras[t])
                picture = output.over(torch.ones(3, device=device)).clamp(0, 1)
                target = sample.colours[t] + 1 - sample.mattes[t]
                rows.append((metrics.psnr(picture, target), metrics.ssim(picture, target)))
    psnr, ssim = (statistics.mean(column) for column in zip(*rows))
    progress = trainer.progress
    return {
        "psnr": psnr,
        "ssim": ssim,
        "steps": progress.step,
        "samples_per_s": progress.samples / max(progress.seconds, 1e-9),
    }
