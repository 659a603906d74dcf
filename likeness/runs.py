"""From a video or a capture to a finished run: what ``likeness fit`` and ``likeness.fit`` do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from likeness.avatar import Avatar
from likeness.fitting.config import FitConfig
from likeness.fitting.length import budget_of
from likeness.fitting.loop import check_batch
from likeness.fitting.networks import require
from likeness.fitting.perceptual import LPIPS
from likeness.fitting.report import write_report
from likeness.fitting.run_directory import RunDirectory, RunOptions, default_root
from likeness.fitting.subject import FitOptions, fit_run
from likeness.playback.demo_truth import compare_with_truth
from likeness.playback.evaluation import measure_run
from likeness.preprocess.pipeline import PreprocessConfig, find_or_build
from likeness.scene.capture import Capture
from likeness.scene.config_files import load_preset, to_yaml
from likeness.scene.devices import choose_device
from likeness.scene.errors import UserError
from likeness.synthetic.truth import make_demo


def fit(
    source: str | Path | Capture,
    out: str | Path | None = None,
    *,
    preset: str = "default",
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    iterations: int | None = None,
    preprocessing: PreprocessConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    weights: str | Path | None = None,
    offline: bool = False,
) -> Avatar:
    """Fits an avatar to one person and measures it, as ``likeness fit`` does.

    source: a video, or a capture or its folder. out: the run directory, which must not exist
        yet; None: ``runs/<name>-<time>``.
    preset: a file of ``configs/`` without .yaml, or the path of a YAML file. overrides: settings of
        it, such as ``schedule.batch=2``.
    minutes, iterations: one of them, the length of the fit; None: the preset's own.
    preprocessing: how a video becomes a capture; None: PreprocessConfig's defaults.
    weights: folder with files of published weights. offline: download none.

    The run directory holds the avatar (``bundle``), ``report.html`` and ``metrics.json``. Raises
    UserError for bad input, before the fit where that is possible.
    """
    for name, value in (("minutes", minutes), ("iterations", iterations)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected a number above 0, got {value}")
    if iterations is not None and iterations != int(iterations):
        raise ValueError(f"iterations: expected a whole number, got {iterations}")
    folder = None if weights is None else str(Path(weights).absolute())
    options = RunOptions(False, minutes, iterations, seed, device, offline, folder)
    run = start_run(source, out, options, preset, overrides, preprocessing or PreprocessConfig())
    with run.held():
        finish_run(run)
    return Avatar.load(run.root, device)


def start_run(
    source: str | Path | Capture | None,
    out: str | Path | None,
    options: RunOptions,
    preset: str = "default",
    overrides: Sequence[str] = (),
    preprocessing: PreprocessConfig = PreprocessConfig(),
) -> RunDirectory:
    """A new run with its capture in it. source: None for ``options.demo``."""
    device = str(choose_device(options.device or "auto"))
    config = load_preset(preset, FitConfig, list(overrides))
    require(config.networks, device)
    if isinstance(source, str):
        source = Path(source)
    path = source.root if isinstance(source, Capture) else source
    root = Path(out) if out is not None else default_root(Path("runs"), _name(path))
    RunDirectory.check_free(root)
    if isinstance(source, Capture):
        capture = source
    elif source is not None and source.is_dir():
        capture = Capture.load(source)
    else:
        capture = find_or_build(
            source or make_demo(_demo_folder(root)).video,
            root.parent / ".captures",
            preprocessing,
            device=device,
            weights=_folder(options),
            download=not options.offline,
        )
    check_batch(config, capture)
    if not capture.test:  # as captures of images have none
        raise UserError(
            f"{capture.root}: no frame is held out to measure a fit on; "
            "expected the capture of a video"
        )
    settings = {k: v for k, v in msgspec.structs.asdict(options).items() if k != "images"}
    return RunDirectory.create(root, capture.root, settings, to_yaml(config))


def open_run(root: Path) -> RunDirectory:
    """A run to resume. Raises UserError where it was made from images."""
    run = RunDirectory.open(root)
    if run.options().images is not None:
        raise UserError(
            f"{run.root}: was made from images, which takes seconds; run likeness fit --image again"
        )
    return run


def finish_run(run: RunDirectory, viewer: tuple[str, int] | None = None) -> dict[str, Any]:
    """Fits, measures and reports a run, taking up what was begun; returns its metrics.

    viewer: host and port at which browsers can watch the fit.
    """
    options, config = run.options(), load_preset(run.config, FitConfig)
    device, weights = str(choose_device(options.device or "auto")), _folder(options)
    capture = Capture.load(run.capture)
    budget = budget_of(config, device, options.minutes, options.iterations)
    fit_options = FitOptions(budget, device, options.seed, weights, not options.offline)
    if viewer is None:
        result = fit_run(run, capture, config, fit_options)
    else:
        from likeness.playback.viewer.following import FitFollower

        follower = FitFollower(capture, device, *viewer)
        try:
            result = fit_run(run, capture, config, fit_options, follower.listener)
        finally:
            follower.stop()
    lpips = LPIPS.create(folder=weights, download=not options.offline)
    truth = {}
    if options.demo:
        demo, views = _demo_folder(run.root), run.root / "novel_views"
        truth = compare_with_truth(result.bundle, capture, demo, device, views)
    metrics = measure_run(run, result, capture, device=device, lpips=lpips, extra=truth)
    write_report(run.root)
    return metrics


def _name(source: Path | None) -> str:
    """What a run is called by default: of a run's own ``capture`` as that run."""
    if source is None:
        return "demo"
    source = source.absolute()
    return source.parent.name if source.is_dir() and source.name == "capture" else source.stem


def _folder(options: RunOptions) -> Path | None:
    return None if options.weights is None else Path(options.weights)


def _demo_folder(root: Path) -> Path:
    return root.parent / ".demo"
