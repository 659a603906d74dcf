"""What the page of a report says, gathered from the files of a run directory: values for the
template."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from likeness.fitting.evaluation import counted, number_at
from likeness.fitting.images import error_map
from likeness.fitting.report import charts, images, tracking
from likeness.fitting.report.charts import Series, line_chart, running_mean
from likeness.scene.capture import MANIFEST, Capture
from likeness.scene.errors import UserError
from likeness.scene.machine import machine_line
from likeness.scene.reading import convert, read_json, read_log

_SHOWN_HELDOUT = 6
_LOG_ENTRIES = 20_000  # of a log that are drawn: more make no other curve
_FRAME_FACTS = (("PSNR", "psnr", 1, " dB"), ("SSIM", "ssim", 3, ""), ("LPIPS", "lpips", 3, ""))
_METRICS = (  # label, path in metrics.json, digits, unit, whether more is better
    ("PSNR, whole frame", ("heldout", "psnr"), 2, "dB", True),
    ("SSIM", ("heldout", "ssim"), 4, "", True),
    ("LPIPS", ("heldout", "lpips"), 4, "", False),
    ("L1", ("heldout", "l1"), 4, "", False),
    ("PSNR, face", ("regions", "face", "psnr"), 2, "dB", True),
    ("PSNR, mouth", ("regions", "mouth", "psnr"), 2, "dB", True),
    ("PSNR, eyes", ("regions", "eyes", "psnr"), 2, "dB", True),
    ("PSNR without the outline", ("regions", "inside", "psnr"), 2, "dB", True),
)
_WITH_SWAY = (
    "PSNR, whole frame, with the secondary motion tracked on these frames",
    *_METRICS[0][1:],
)
_SHOWN_ELSEWHERE = {
    *("headline", "unswayed", "num_frames", "source", "heldout", "regions", "error_share"),
    *("lpips_net", "per_frame", "train", "baseline", "num_gaussians", "bundle_mb", "seconds"),
    *("notes", "versions"),
}
_SHARES = {
    "border": "outline (the matte's border band)",
    "torso": "neck and shoulders",
    "face": "face",
    "rest": "hair, ears, background",
}
_INSIDE = {
    "depth": "expected depth of a held-out frame, near bright",
    "points_canonical": "its Gaussians as points, without expression, from the front and the side",
    "points_deformed": "the same with the strongest expression of the frames shown",
    "planes": "its feature planes (xy, xz, yz), three principal components as colours",
}
_PICTURES = {
    "source": "an image that the avatar was made from, the avatar in its place, and the error",
    "turntable": "the avatar at rest, turned by 30 degrees to either side",
    "expressions": "five expressions that no image showed",
    "edit": "the avatar before, the edited image, the avatar with its colours",
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """An image of the page."""

    uri: str
    caption: str


def gather(run_dir: Path) -> dict[str, Any]:
    """The template's values. Where files are not there a section is empty and its ``..._missing``
    says why."""
    metrics, metrics_problem = _read(run_dir / "metrics.json", "metrics of a run", _Metrics)
    settings, _ = _read(run_dir / "run.json", "settings of a run", _Settings)
    capture, capture_problem = _capture(run_dir / "capture")
    log = _log(run_dir / "log.jsonl")
    metrics = metrics or {}
    measured = counted(metrics)
    frames = {**metrics, **measured}  # older runs have those with secondary motion alone
    return {
        "name": run_dir.resolve().name,
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "tiles": _tiles(metrics),
        "comparison": _comparison(metrics),
        "unswayed": measured is not metrics,
        "metrics_missing": metrics_problem,
        "further": tracking.flatten(
            {key: value for key, value in metrics.items() if key not in _SHOWN_ELSEWHERE}
        ),
        "error_share": _error_share(frames),
        "heldout": _heldout(run_dir / "heldout", frames),
        "heldout_chart": _heldout_chart(frames),
        "inside": _inside(run_dir / "inside"),
        "pictures": _pictures(run_dir / "pictures"),
        "capture": tracking.section(capture) if capture is not None else None,
        "capture_missing": capture_problem,
        "training": _training(log),
        "seconds": _seconds(metrics, capture),
        "config": _text(run_dir / "config.yaml"),
        "machine": _machine(settings),
        "notes": metrics.get("notes") or {},
        "versions": metrics.get("versions") or (settings or {}).get("versions") or {},
        "film": "heldout.mp4" if (run_dir / "heldout.mp4").is_file() else None,
    }


class _Settings(msgspec.Struct):
    """What the page takes for granted of ``run.json``; all else is shown as it stands."""

    versions: dict[str, Any] = msgspec.field(default_factory=dict)
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    machine: dict[str, Any] = msgspec.field(default_factory=dict)


class _Metrics(msgspec.Struct):
    """What the page takes for granted of ``metrics.json``; figures are looked up one by one, and
    may be missing."""

    notes: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    seconds: dict[str, Any] | None = None
    per_frame: list[dict[str, Any]] | None = None


def _read(path: Path, what: str, kind: type) -> tuple[dict[str, Any] | None, str | None]:
    """A JSON object whose parts are those of ``kind``, or None and why there is none."""
    if not path.is_file():
        return None, f"There is no {path.name} yet."
    try:
        value = read_json(path, dict[str, Any], what)
        convert(value, kind, path)
    except UserError as error:
        return None, str(error)
    return value, None


def _capture(root: Path) -> tuple[Capture | None, str | None]:
    if not (root / MANIFEST).is_file():
        return None, "There is no capture in this run directory."
    try:
        return Capture.load(root), None
    except UserError as error:
        return None, str(error)


def _machine(settings: dict[str, Any] | None) -> str | None:
    """What the run was started on; None for runs that do not say it."""
    try:
        return machine_line((settings or {})["machine"], load=False)
    except (KeyError, TypeError):
        return None


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, of a very long one every second, fourth, ... ."""
    entries, stride = [], 1
    for number, (_, entry) in enumerate(read_log(path) if path.is_file() else ()):
        if number % stride == 0:
            entries.append(entry)
        if len(entries) > _LOG_ENTRIES:
            entries, stride = entries[::2], 2 * stride
    return entries


def _baseline(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the baseline is measured to be on the same frames as ``counted``."""
    baseline = metrics.get("baseline")
    baseline = baseline if isinstance(baseline, dict) else {}
    return baseline.get("unswayed") or {} if counted(metrics) is not metrics else baseline


def _tiles(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The figures at the top of the page, the headline first."""
    measured, psnr = counted(metrics), number_at(counted(metrics), "heldout", "psnr")
    base, seconds = number_at(_baseline(metrics), "heldout", "psnr"), metrics.get("seconds") or {}
    gain = "" if psnr is None or base is None else f"{psnr - base:+.1f} dB against no expressions"
    with_sway = None if measured is metrics else number_at(metrics, "heldout", "psnr")
    minutes = (number_at(seconds, "fit") or 0.0) / 60 or None
    lpips = number_at(measured, "heldout", "lpips")
    tiles = (
        ("held-out PSNR", psnr, "{:.1f} dB", gain),
        ("with tracked secondary motion", with_sway, "{:.1f} dB", "no driver can reach this"),
        ("SSIM", number_at(measured, "heldout", "ssim"), "{:.3f}", ""),
        ("LPIPS", lpips, "{:.3f}", measured.get("lpips_net") or ""),
        ("training PSNR", number_at(metrics, "train", "psnr"), "{:.1f} dB", ""),
        ("Gaussians", number_at(metrics, "num_gaussians"), "{:,.0f}", ""),
        ("avatar", number_at(metrics, "bundle_mb"), "{:.1f} MB", ""),
        ("fitting", minutes, "{:.1f} min", ""),
    )
    return [
        {"label": label, "value": form.format(value), "note": note}
        for label, value, form, note in tiles
        if value is not None
    ]


def _comparison(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: avatar, baseline without expressions, difference."""
    measured, baseline = counted(metrics), _baseline(metrics)
    sources = [(metric, measured, baseline) for metric in _METRICS]
    if measured is not metrics:  # beside the headline, and named
        sources.append((_WITH_SWAY, metrics, metrics.get("baseline") or {}))
    rows = []
    for (label, keys, digits, unit, more_is_better), of_avatar, of_baseline in sources:
        value, base = number_at(of_avatar, *keys), number_at(of_baseline, *keys)
        if value is None and base is None:
            continue
        gain = None if value is None or base is None else value - base
        texts = ["–" if number is None else f"{number:.{digits}f}" for number in (value, base)]
        difference = "" if gain is None else f"{gain:+.{digits}f}"
        better = None if gain is None or abs(gain) < 10**-digits else (gain > 0) == more_is_better
        row = {"label": label, "unit": unit, "avatar": texts[0], "baseline": texts[1]}
        rows.append({**row, "gain": difference, "better": better})
    return rows


def _error_share(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    shares = []
    for (name, label), colour in zip(_SHARES.items(), charts.COLOURS):
        share = number_at(metrics, "error_share", name)
        if share is not None:
            shares.append({"label": label, "percent": 100 * share, "colour": colour})
    return shares


def _heldout(folder: Path, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Some held-out frames, the worst and the best among them: truth, avatar and error."""
    names = sorted(path.name[: -len("_truth.png")] for path in folder.glob("*_truth.png"))
    names = [name for name in names if (folder / f"{name}_avatar.png").is_file()]
    measured = {str(entry.get("name")): entry for entry in _per_frame(metrics)}
    rows = []
    for name, title in _chosen(names, measured):
        paths = [folder / f"{name}_{kind}.png" for kind in ("truth", "avatar")]
        truth, avatar = map(images.read_image, paths)
        triple = {"truth": truth, "avatar": avatar, "error": error_map(truth, avatar)}
        facts = []
        for label, key, digits, unit in _FRAME_FACTS:
            value = number_at(measured.get(name), key)
            facts += [] if value is None else [f"{label} {value:.{digits}f}{unit}"]
        figures = [Figure(images.data_uri(image), caption) for caption, image in triple.items()]
        rows.append({"title": title, "name": name, "figures": figures, "facts": ", ".join(facts)})
    return rows


def _per_frame(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in metrics.get("per_frame") or [] if isinstance(entry, dict)]


def _chosen(names: list[str], measured: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and titles of the frames that are shown, in the order of time."""
    spread = np.linspace(0, len(names) - 1, _SHOWN_HELDOUT).astype(int) if names else []
    titles = {names[position]: "frame" for position in spread}
    ranked = [name for name in names if number_at(measured.get(name), "psnr") is not None]
    ranked.sort(key=lambda name: measured[name]["psnr"])
    if len(ranked) > 1:
        titles.update({ranked[0]: "worst frame", ranked[-1]: "best frame"})
    return sorted(titles.items())


def _inside(folder: Path) -> list[Figure]:
    """Images of what the avatar is made of."""
    figures = []
    for path in sorted(folder.glob("*.png")):
        stem, _, number = path.stem.partition("_")
        caption = _INSIDE.get(path.stem) or _INSIDE.get(stem, path.stem)
        scale = f", {number} times the base" if stem == "planes" else ""
        figures.append(Figure(images.data_uri(images.read_image(path)), caption + scale))
    return figures


def _pictures(folder: Path) -> list[Figure]:
    """What an avatar of pictures shows."""
    return [
        Figure(images.data_uri(images.read_image(path), 1280), caption)
        for kind, caption in _PICTURES.items()
        for path in sorted(folder.glob(f"{kind}*.png"))
    ]


def _heldout_chart(metrics: Mapping[str, Any]) -> Markup:
    frames = _per_frame(metrics)
    if len(frames) < 3:
        return Markup("")
    times = [number_at(entry, "time_s") or 0.0 for entry in frames]
    paths = {"whole frame": ("psnr",)}
    paths |= {name: ("regions", name) for name in ("face", "mouth", "eyes")}
    curves = {name: [number_at(e, *keys) for e in frames] for name, keys in paths.items()}
    series = [Series(name, times, values) for name, values in curves.items()]
    return Markup(line_chart(series, x_label="seconds", y_label="PSNR, dB"))


def _training(log: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """Titles and charts of loss, PSNR and Gaussians over the steps."""
    if len(log) < 2:
        return []
    steps = [entry["step"] for entry in log]
    loss, psnr, count = (
        [number_at(entry, key) for entry in log] for key in ("loss", "psnr", "num_gaussians")
    )

    def smoothed(name: str, values: list[float | None]) -> list[Series]:
        mean = running_mean(values)
        return [Series(name, steps, values, faint=True), Series(name, steps, mean)]

    drawn = {
        "Loss": line_chart(smoothed("loss", loss), x_label="step", y_label="loss", log_y=True),
        "PSNR of the training frames": line_chart(
            smoothed("psnr", psnr), x_label="step", y_label="dB"
        ),
        "Gaussians": line_chart(
            [Series("Gaussians", steps, count)], x_label="step", y_label="number", from_zero=True
        ),
    }
    return [(title, Markup(chart)) for title, chart in drawn.items() if chart]


def _seconds(metrics: dict[str, Any], capture: Capture | None) -> list[dict[str, Any]]:
    """Stages and how long they took, with the share of the longest."""
    detail = capture.report.get("seconds") if capture is not None else None
    stages = detail if isinstance(detail, dict) else {}
    stages = {f"preprocessing: {name}": s for name, s in stages.items() if name != "total"}
    for name, value in (metrics.get("seconds") or {}).items():
        if not (name == "preprocess" and stages):
            stages[name] = value
    numbers = {name: float(s) for name, s in stages.items() if isinstance(s, (int, float))}
    longest = max(numbers.values(), default=0.0) or 1.0
    return [
        {"name": name, "text": duration(value), "percent": 100 * value / longest}
        for name, value in numbers.items()
    ]


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
