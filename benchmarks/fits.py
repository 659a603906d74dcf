"""Fits to a capture that benchmarks compare: one process each, figures kept as they come.

Only what the figures need: no baseline, no report, no bundle that stays.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.runs import REGIONS
from scene.files import write_json


@dataclasses.dataclass(frozen=True)
class Fit:
    """One fit: a preset with settings changed, on the training frames of a capture, measured on its test frames."""

    capture: Path
    preset: str
    settings: tuple[str, ...]
    seed: int
    minutes: float
    weights: Path | None = None

    @property
    def capture_name(self) -> str:
        root = self.capture.absolute()
        return root.parent.name if root.name == "capture" else root.name

    def described(self) -> dict[str, Any]:
        """Plain values that tell fits apart."""
        plain = {**dataclasses.asdict(self), "settings": list(self.settings), "capture": str(self.capture.absolute())}
        return plain | {"weights": str(self.weights) if self.weights else None}


def run_all(fits: Sequence[tuple[str, Fit]], out: Path, jobs: int, threads: int) -> dict[str, dict[str, Any]]:
    """The figures of fits by name: those kept in ``out``, and the others, ``jobs`` at a time on ``threads`` each.

    Ends the program where a kept figure is of a fit with other options.
    """
    found, missing = {}, []
    for name, fit in fits:
        record = out / f"{name}.json"
        if not record.exists():
            missing.append((name, fit))
            continue
        kept = json.loads(record.read_text())
        if kept["fit"] != fit.described():
            sys.exit(f"{record}: figures of a fit with other options; choose another --out")
        found[name] = kept["figures"]
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)  # the processes to come inherit it
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A process per fit: its peak memory is its own, and no fit finds another's caches warm.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(figures, fit): (name, fit) for name, fit in missing}
        for future in as_completed(running):
            name, fit = running[future]
            found[name] = future.result()
            write_json(out / f"{name}.json", {"fit": fit.described(), "figures": found[name]})
            print(f"{name}: {found[name]['psnr']:.2f} dB", file=sys.stderr, flush=True)
    return found


def figures(fit: Fit) -> dict[str, Any]:
    """What a fit gives; None for what cannot be measured here. Memory is of the whole process, measuring included."""
    import torch

    from fitting import losses, memory
    from fitting.bundle import AvatarBundle
    from fitting.config import FitConfig
    from fitting.config_files import load_preset
    from fitting.loop import Budget
    from fitting.loop import fit as fit_avatar
    from fitting.perceptual import LPIPS, make_vgg_loss
    from playback.evaluation import evaluate_bundle, train_sample
    from renderers import create
    from scene.capture import Capture

    memory.keep_pages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        losses.compile_kernels()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    capture, last = Capture.load(fit.capture), _Last()
    config = load_preset(fit.preset, FitConfig, fit.settings)
    perceptual = make_vgg_loss(fit.weights, False, device) if config.objective.perceptual else None
    avatar = fit_avatar(
        capture, create("auto", device), config, Budget(minutes=fit.minutes), device=device, seed=fit.seed,
        perceptual=perceptual, listeners=[last],
    )  # fmt: skip
    bundle = AvatarBundle.from_fit(avatar.eval(), capture, {})
    lpips = LPIPS.create(folder=fit.weights, download=False)
    heldout = evaluate_bundle(bundle, capture, capture.test, device=device, lpips=lpips)
    train = evaluate_bundle(bundle, capture, train_sample(capture), device=device)
    return {
        **heldout.heldout, **{name: heldout.regions[name]["psnr"] for name in REGIONS},
        "train": train.heldout["psnr"], "steps": last.info.step, "num_gaussians": avatar.num_gaussians,
        "steps_per_s": round(last.info.step / last.info.seconds, 2), "bundle_mb": _megabytes(bundle),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "perceptual": perceptual is not None,
    }  # fmt: skip


class _Last:
    """Remembers the last step of a fit."""

    info: Any = None

    def on_step(self, info: Any, avatar: Any) -> None:
        self.info = info

    def on_end(self, avatar: Any) -> None:
        return None


def _megabytes(bundle: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder))
        return round(sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6, 2)
