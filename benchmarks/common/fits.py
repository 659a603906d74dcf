"""Fits to a capture that benchmarks compare: one process each, figures kept as they come.

Only what the figures need: no baseline, no report, no bundle that stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.scene.files import write_json

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle
    from likeness.fitting.loop import Budget
    from likeness.scene.capture import Capture

# What sets the threads of PyTorch, of the libraries under it, and of the CPU renderer.
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "LIKENESS_THREADS",
)


@dataclasses.dataclass(frozen=True)
class Fit:
    """One fit: a preset with settings changed, on the training frames of a capture, measured on its
    test frames. minutes, iterations: its length, one of the two."""

    capture: Path
    preset: str
    settings: tuple[str, ...]
    seed: int
    minutes: float | None
    weights: Path | None = None
    iterations: int | None = None

    @property
    def length(self) -> str:
        """How long it takes, for names of files and headings."""
        return f"{self.minutes:g}min" if self.iterations is None else f"{self.iterations}steps"

    @property
    def capture_name(self) -> str:
        root = self.capture.absolute()
        return root.parent.name if root.name == "capture" else root.name

    def described(self) -> dict[str, Any]:
        """Plain values that tell fits apart: these options, and every setting that the preset comes
        to."""
        from likeness.fitting.avatars import AVATARS
        from likeness.fitting.config import FitConfig
        from likeness.scene.config_files import load_preset, to_dict

        plain = {
            **dataclasses.asdict(self),
            "settings": list(self.settings),
            "capture": str(self.capture.absolute()),
        }
        config = to_dict(load_preset(self.preset, FitConfig, self.settings))
        used = {
            key: value
            for key, value in config.items()
            if key not in AVATARS or key == config["avatar"]
        }
        return plain | {"weights": str(self.weights) if self.weights else None, "config": used}


def file_name(*parts: str) -> str:
    """A name for the file of a fit's figures."""
    return "-".join("".join(c if c.isalnum() or c == "-" else "_" for c in part) for part in parts)


def kept(fits: Sequence[tuple[str, Fit]], out: Path) -> dict[str, dict[str, Any]]:
    """The figures that ``out`` holds, by the fits' names. Ends the program where one is of a fit
    with other options."""
    fits_by_name = {}
    for name, fit in fits:
        record = out / f"{name}.json"
        if not record.exists():
            continue
        content = json.loads(record.read_text())
        if content["fit"] != fit.described():
            sys.exit(f"{record}: figures of a fit with other options; choose another --out")
        fits_by_name[name] = content["figures"]
    return fits_by_name


def run_all(
    fits: Sequence[tuple[str, Fit]],
    out: Path,
    jobs: int,
    threads: int,
    measure: Callable[[Any], dict[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """The figures of fits by name: those kept in ``out``, and the others, ``jobs`` at a time on
    ``threads`` each.

    measure: a function of a module that takes a fit and gives its figures, "psnr" among them; of
    None ``figures``.

    They are begun in the order given. A fit that fails does not keep the others from going on; the
    program ends with its name after the last. Ends the program where a kept figure is of a fit with
    other options.
    """
    from tqdm import tqdm

    done, failed = kept(fits, out), []
    missing = [(name, fit) for name, fit in fits if name not in done]
    bar = tqdm(total=len(missing), desc="fits", unit="fit", disable=not missing)
    # A process per fit: its peak memory is its own, and no fit finds another's caches warm.
    with _threads(threads), bar, _pool(jobs) as pool:
        running = {pool.submit(measure or figures, fit): (name, fit) for name, fit in missing}
        for future in as_completed(running):
            name, fit = running[future]
            bar.update()
            if error := future.exception():
                failed.append(name)
                tqdm.write(f"{name}: failed: {error!r}", file=sys.stderr)
                continue
            done[name] = future.result()
            write_json(out / f"{name}.json", {"fit": fit.described(), "figures": done[name]})
            tqdm.write(f"{name}: {done[name]['psnr']:.2f} dB", file=sys.stderr)
    if failed:
        sys.exit(
            f"{len(failed)} of {len(fits)} fits failed: {', '.join(failed)}; the others' figures "
            f"are in {out}"
        )
    return done


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Processes begun inside have so many threads each, which sleep while they wait."""
    wanted = {
        **dict.fromkeys(THREADS, str(number)),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes for single tasks. Whoever is stopped inside takes them along, and begins no
    more."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise


def _budget(fit: Fit, device: str) -> Budget:
    """The length of a fit. On one thread a minute is one of processor time, which no other program
    can shorten."""
    from likeness.fitting.loop import Budget

    one_thread = device == "cpu" and os.environ.get("OMP_NUM_THREADS") == "1"
    return Budget(
        fit.minutes, fit.iterations, clock=time.process_time if one_thread else time.monotonic
    )


def figures(fit: Fit) -> dict[str, Any]:
    """What a fit gives; None for what cannot be measured here. Memory is of the whole process,
    measuring included.

    The figures of held-out frames are the headline's (``likeness.fitting.evaluation.headline``);
    ``with_sway`` stands beside.
    """
    from likeness.fitting.evaluation import finite
    from likeness.fitting.perceptual import LPIPS
    from likeness.playback.evaluation import evaluate_bundle, evaluate_frames, train_sample
    from likeness.scene.capture import Capture

    capture = Capture.load(fit.capture)
    bundle, cost = fitted(fit, capture)
    device = fitting_device()
    lpips = LPIPS.create(folder=fit.weights, download=False)
    heldout = evaluate_frames(bundle, capture, capture.test, device=device, lpips=lpips)
    train = evaluate_bundle(bundle, capture, train_sample(capture), device=device)
    return finite(
        {
            **heldout["headline"],
            "with_sway": heldout["heldout"]["psnr"],
            "train": train.heldout["psnr"],
            "error_share": heldout["unswayed"]["error_share"],
            **cost,
            "peak_memory_gb": _peak_memory(),
        }
    )


def fitting_device() -> str:
    """Where fits of this process run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def fitted(fit: Fit, capture: Capture) -> tuple[AvatarBundle, dict[str, Any]]:
    """The avatar of a fit to the training frames of a capture (its own, or a part of it), and what
    it cost."""
    import torch

    from likeness.fitting import memory
    from likeness.fitting.bundle import AvatarBundle
    from likeness.fitting.config import FitConfig
    from likeness.fitting.loop import fit as fit_avatar
    from likeness.fitting.perceptual import make_vgg_loss
    from likeness.fitting.run_directory import code_version
    from likeness.ops import adam, image_loss
    from likeness.renderers import create
    from likeness.scene.config_files import load_preset
    from likeness.scene.machine import machine

    memory.keep_pages()
    device, last = fitting_device(), _Last()
    if device == "cpu":
        image_loss.compile_kernels()
        adam.compile_kernels()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = load_preset(fit.preset, FitConfig, fit.settings)
    perceptual = make_vgg_loss(fit.weights, False, device) if config.objective.perceptual else None
    avatar = fit_avatar(
        capture,
        create("auto", device),
        config,
        _budget(fit, device),
        device=device,
        seed=fit.seed,
        perceptual=perceptual,
        listeners=[last],
    )
    bundle = AvatarBundle.from_fit(avatar.eval(), capture, {})
    return bundle, {
        "steps": last.info.step,
        "num_gaussians": avatar.num_gaussians,
        "steps_per_s": round(last.info.step / last.info.seconds, 2),
        "bundle_mb": _megabytes(bundle),
        "peak_memory_gb": _peak_memory(),
        "perceptual": perceptual is not None,
        "code": code_version(),
        "machine": machine(),
    }


def _peak_memory() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


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
