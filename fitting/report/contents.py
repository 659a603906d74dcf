"""What the page of a report says, gathered from the files of a run directory: values for the
template."""

from __future__ import annotations

import dataclasses
import time
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
    "PSNR, whole frame, with the sway tracked on these frames",
    ("heldout", "psnr"),
    2,
    "dB",
    True,
)
_SHOWN_ELSEWHERE = (
    "headline",
    "unswayed",
    "num_frames",
    "source",
    "heldout",
    "regions",
    "error_share",
    "lpips_net",
    "per_frame",
    "train",
    "baseline",
    "num_gaussians",
    "bundle_mb",
    "seconds",
    "notes",
    "versions",
)
_SHARES = (
    ("border", "outline (the matte's border band)"),
    ("torso", "neck and shoulders"),
    ("face", "face"),
    ("rest", "hair, ears, background"),
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture of the page."""

    uri: str
    caption: str
    kind: str = ""


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
            {k: v for k, v in metrics.items() if k not in _SHOWN_ELSEWHERE}
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
    return [entry for _, entry in read_log(path)] if path.is_file() else []


def _baseline(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the baseline is measured to be on the same frames as ``counted``."""
    baseline = metrics.get("baseline")
    baseline = baseline if isinstance(baseline, dict) else {}
    return baseline.get("unswayed") or {} if counted(metrics) is not metrics else baseline


def _tiles(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The figures at the top of the page, the headline first."""
    measured = counted(metrics)
    psnr, base = (
        number_at(measured, "heldout", "psnr"),
        number_at(_baseline(metrics), "heldout", "psnr"),
    )
    tiles = []

    def tile(label: str, value: float | None, form: str, note: str = "") -> None:
        if value is not None:
            tiles.append({"label": label, "value": form.format(value), "note": note})

    gain = "" if psnr is None or base is None else f"{psnr - base:+.1f} dB against no expressions"
    tile("held-out PSNR", psnr, "{:.1f} dB", gain)
    if measured is not metrics:
        tile(
            "the same with tracked sway",
            number_at(metrics, "heldout", "psnr"),
            "{:.1f} dB",
            "no driver can reach this",
        )
    tile("SSIM", number_at(measured, "heldout", "ssim"), "{:.3f}")
    tile(
        "LPIPS", number_at(measured, "heldout", "lpips"), "{:.3f}", measured.get("lpips_net") or ""
    )
    tile("training PSNR", number_at(metrics, "train", "psnr"), "{:.1f} dB")
    tile("Gaussians", number_at(metrics, "num_gaussians"), "{:,.0f}")
    tile("avatar", number_at(metrics, "bundle_mb"), "{:.1f} MB")
    seconds = number_at(metrics, "seconds", "fit")
    tile("fitting", None if seconds is None else seconds / 60, "{:.1f} min")
    return tiles


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
    found = [(name, label, number_at(metrics, "error_share", name)) for name, label in _SHARES]
    return [
        {"name": name, "label": label, "percent": 100 * share, "colour": charts.COLOURS[index]}
        for index, (name, label, share) in enumerate(found)
        if share is not None
    ]


def _heldout(folder: Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Some held-out frames, the worst and the best among them: truth, avatar and error."""
    names = sorted(path.name[: -len("_truth.png")] for path in folder.glob("*_truth.png"))
    names = [name for name in names if (folder / f"{name}_avatar.png").is_file()]
    measured = {
        entry.get("name"): entry
        for entry in metrics.get("per_frame") or []
        if isinstance(entry, dict)
    }
    rows = []
    for name, title in _chosen(names, measured):
        truth, avatar = (
            images.read_picture(folder / f"{name}_{kind}.png") for kind in ("truth", "avatar")
        )
        figures = [
            Figure(images.data_uri(picture), caption)
            for picture, caption in (
                (truth, "truth"),
                (avatar, "avatar"),
                (error_map(truth, avatar), "error"),
            )
        ]
        entry = measured.get(name, {})
        facts = [
            f"{label} {number_at(entry, key):.{digits}f}{unit}"
            for label, key, digits, unit in _FRAME_FACTS
            if number_at(entry, key) is not None
        ]
        rows.append({"title": title, "name": name, "figures": figures, "facts": ", ".join(facts)})
    return rows


_INSIDE = {
    "depth": "expected depth of a held-out frame, near bright",
    "points_canonical": "its Gaussians as points, without expression, from the front and from the side",
    "points_deformed": "the same with the strongest expression of the frames shown",
    "planes": "its feature planes (xy, xz, yz), three principal components as colours",
}


def _inside(folder: Path) -> list[Figure]:
    """Pictures of what the avatar is made of."""
    figures = []
    for path in sorted(folder.glob("*.png")):
        stem = path.stem if path.stem in _INSIDE else path.stem.partition("_")[0]
        scale = f", {path.stem.partition('_')[2]} times the base" if stem == "planes" else ""
        figures.append(
            Figure(images.data_uri(images.read_picture(path)), _INSIDE.get(stem, path.stem) + scale)
        )
    return figures


_PICTURES = {
    "source": "a picture that the avatar was made from, the avatar in its place, and the error",
    "turntable": "the avatar at rest, turned by 30 degrees to either side",
    "expressions": "five expressions that no picture showed",
    "edit": "the avatar before, the edited picture, the avatar with its colours",
}


def _pictures(folder: Path) -> list[Figure]:
    """What an avatar of pictures shows."""
    order = list(_PICTURES)
    paths = sorted(
        folder.glob("*.png"), key=lambda path: (order.index(path.stem.partition("_")[0]), path.stem)
    )
    return [
        Figure(
            images.data_uri(images.read_picture(path), 1280), _PICTURES[path.stem.partition("_")[0]]
        )
        for path in paths
    ]


def _chosen(names: list[str], measured: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and titles of the frames that are shown, in the order of time."""
    spread = np.linspace(0, len(names) - 1, _SHOWN_HELDOUT).astype(int) if names else []
    titles = {names[position]: "frame" for position in spread}
    ranked = [name for name in names if number_at(measured.get(name), "psnr") is not None]
    ranked.sort(key=lambda name: measured[name]["psnr"])
    if len(ranked) > 1:
        titles.update({ranked[0]: "worst frame", ranked[-1]: "best frame"})
    return sorted(titles.items())


def _heldout_chart(metrics: dict[str, Any]) -> Markup:
    frames = [entry for entry in metrics.get("per_frame") or [] if isinstance(entry, dict)]
    if len(frames) < 3:
        return Markup("")
    times = [number_at(entry, "time_s") or 0.0 for entry in frames]
    curves = [
        ("whole frame", ("psnr",)),
        *((name, ("regions", name)) for name in ("face", "mouth", "eyes")),
    ]
    series = [
        Series(name, times, [number_at(entry, *keys) for entry in frames]) for name, keys in curves
    ]
    return Markup(line_chart(series, x_label="seconds", y_label="PSNR, dB"))


def _training(log: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """Titles and charts of loss, PSNR and Gaussians over the steps."""
    if len(log) < 2:
        return []
    steps = [entry["step"] for entry in log]
    found = []
    for title, key, label, options in (
        ("Loss", "loss", "loss", {"log_y": True}),
        ("PSNR of the training frames", "psnr", "dB", {}),
        ("Gaussians", "num_gaussians", "number", {"from_zero": True}),
    ):
        values = [number_at(entry, key) for entry in log]
        series = [Series(key, steps, values)]
        if key != "num_gaussians":
            series = [
                Series(key, steps, values, faint=True),
                Series(key, steps, running_mean(values)),
            ]
        if chart := line_chart(series, x_label="step", y_label=label, **options):
            found.append((title, Markup(chart)))
    return found


def _seconds(metrics: dict[str, Any], capture: Capture | None) -> list[dict[str, Any]]:
    """Stages and how long they took, with the share of the longest."""
    stages: dict[str, float] = {}
    detail = capture.report.get("seconds") if capture is not None else None
    if isinstance(detail, dict):
        stages.update(
            {f"preprocessing: {name}": value for name, value in detail.items() if name != "total"}
        )
    for name, value in (metrics.get("seconds") or {}).items():
        if not (name == "preprocess" and stages):
            stages[name] = value
    stages = {
        name: float(value) for name, value in stages.items() if isinstance(value, (int, float))
    }
    longest = max(stages.values(), default=0.0) or 1.0
    return [
        {"name": name, "text": duration(value), "percent": 100 * value / longest}
        for name, value in stages.items()
    ]


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
