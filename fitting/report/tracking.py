"""The part of the page about the video: facts, warnings, mesh, mattes, curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from likeness.fitting.report import images
from likeness.fitting.report.charts import Series, line_chart
from likeness.head_models.landmarks import EYE_CORNERS
from likeness.preprocess.quality import head_angles
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import load_rgba

_MATTES = 6
_CURVES = {
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "jaw open": ("jawOpen",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
}


def section(capture: Capture) -> dict[str, Any]:
    """The template's values of one capture."""
    report = capture.report if isinstance(capture.report, dict) else {}
    angles = head_angles(capture.states.T_world_head.numpy())
    percent = residual_percent(capture)
    expression = {name: _mean_expression(capture, columns) for name, columns in _CURVES.items()}
    mesh, mesh_problem = _mesh(capture, angles, percent, expression)
    return {
        "facts": _facts(capture, percent),
        "warnings": [
            w for w in report.get("warnings") or [] if isinstance(w, dict) and "what" in w
        ],
        "mesh": mesh,
        "mesh_missing": mesh_problem,
        "mattes": _mattes(capture),
        "curves": _curves(capture, angles, percent, expression),
        "expressions": _expressions(capture),
        "details": flatten(
            {key: value for key, value in report.items() if key not in ("warnings", "seconds")}
        ),
    }


def residual_percent(capture: Capture) -> np.ndarray:
    """[T] landmark residuals in per cent of the distance of the outer eye corners."""
    right, left = EYE_CORNERS
    if capture.frames[0].landmarks.shape[0] <= left:
        raise UserError(
            f"{capture.root}: landmarks of another detector; preprocess the video again"
        )
    points = capture.frames.landmarks[:, [right, left]].numpy()
    distance = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)
    residual = capture.frames.residuals_px.numpy()
    return 100 * residual / np.maximum(distance, 1e-6)


def _facts(capture: Capture, percent: np.ndarray) -> list[tuple[str, str]]:
    """What a person wants to know first."""
    report, camera = capture.report, capture.frames[0].camera
    video, frames = report.get("video") or {}, report.get("frames") or {}
    facts = []
    if name := video.get("name") or video.get("path"):
        known = "width" in video and "height" in video
        size = f", {video['width']}×{video['height']}" if known else ""
        facts.append(("video", f"{name}{size}"))
    used = f"{len(capture.frames)} used at {capture.fps:g} per second"
    seen = frames.get("seen")
    facts.append(("frames", f"{used}, of {seen} looked at" if seen else used))
    if dropped := frames.get("dropped"):
        reasons = ", ".join(f"{reason}: {number}" for reason, number in dropped.items())
        facts.append(("left out", reasons))
    test = f"the last {len(capture.test)} held out" if capture.test else "none held out"
    facts.append(("split", f"{len(capture.train)} for training, {test}"))
    focal = f"focal length {float(camera.K[0, 0]):.0f} pixels"
    facts.append(("images", f"{camera.width}×{camera.height}, {focal}"))
    if matting := (report.get("matting") or {}).get("name"):
        facts.append(("matting", str(matting)))
    facts.append(("head model", capture.head_model))
    median, high = np.percentile(percent, (50, 95))
    error = f"median {median:.2f} %, 95th percentile {high:.2f} % of the eye-corner distance"
    facts.append(("landmark error", error))
    if tracking := report.get("photometric"):
        unchanged, sway = len(tracking["fallen_back"]), tracking.get("sway_mm", {}).get("rms", 0.0)
        text = (
            f"error {tracking['error']['before']:.4f} → {tracking['error']['after']:.4f}; heads "
            f"rotated by {tracking['rotation_deg']['median']:.1f}° (median), secondary motion of "
            f"hair and clothes {sway:.1f} mm (rms)"
        )
        text += f"; {unchanged} frames as the landmarks had them" if unchanged else ""
        facts.append(("photometric tracking", text))
    return facts


def _mean_expression(capture: Capture, names: tuple[str, ...]) -> np.ndarray | None:
    """[T] the mean of some coefficients, None where the head model has none of them."""
    known = capture.expression_names
    columns = [known.index(name) for name in names if name in known]
    return capture.states.expression[:, columns].mean(-1).numpy() if columns else None


def _mesh(
    capture: Capture, angles: dict, percent: np.ndarray, expression: dict
) -> tuple[list, str | None]:
    """The tracked mesh over the frames that say most: extremes of pose, the widest mouth, the worst
    fit."""
    extremes = {
        "turned most to the subject's left": angles["yaw"].argmax(),
        "turned most to the subject's right": angles["yaw"].argmin(),
        "looking furthest up": angles["pitch"].argmax(),
        "looking furthest down": angles["pitch"].argmin(),
        "worst landmark fit": percent.argmax(),
    }
    if expression["jaw open"] is not None:
        extremes["mouth open widest"] = expression["jaw open"].argmax()
    try:
        draw = images.MeshOverlay(capture)
        captions: dict[int, list[str]] = {}
        for caption, index in extremes.items():
            captions.setdefault(int(index), []).append(caption)
        figures = []
        for index, parts in captions.items():
            frame, error = capture.frames[index], percent[index]
            caption = f"{', '.join(parts)} ({frame.time_s:.1f} s, error {error:.1f} %)"
            figures.append({"uri": images.data_uri(draw(frame), 480), "caption": caption})
    except UserError as error:
        return [], str(error)
    return figures, None


def _mattes(capture: Capture) -> list[dict[str, str]]:
    """Some frames cut out, over green."""
    chosen = np.unique(np.linspace(0, len(capture.frames) - 1, _MATTES).round().astype(int))
    figures = []
    for index in chosen:
        frame = capture.frames[index]
        uri = images.data_uri(images.on_green(load_rgba(frame)))
        figures.append({"uri": uri, "caption": f"{frame.time_s:.1f} s, on green"})
    return figures


def _curves(
    capture: Capture, angles: dict, percent: np.ndarray, expression: dict
) -> list[tuple[str, Markup]]:
    times = capture.frames.times_s.tolist()
    shaded = (min(times[i] for i in capture.test), max(times), "held out") if capture.test else None

    def chart(curves: dict[str, Any], y_label: str, **options: Any) -> Markup:
        drawn = {name: values for name, values in curves.items() if values is not None}
        series = [Series(name, times, values.tolist()) for name, values in drawn.items()]
        labels = {"x_label": "seconds", "y_label": y_label}
        return Markup(line_chart(series, shaded=shaded, **labels, **options))

    drawn = [
        ("Head pose", chart(angles, "degrees")),
        ("Expressions", chart(expression, "coefficient", from_zero=True)),
        ("Landmark error", chart({"error": percent}, "% of eye distance", from_zero=True)),
    ]
    return [(title, svg) for title, svg in drawn if svg]


def _expressions(capture: Capture) -> list[dict[str, Any]]:
    """How strongly each expression was seen, the strongest first."""
    highest = np.percentile(capture.states.expression.numpy(), 98, axis=0).clip(0, None)
    order = np.argsort(-highest, kind="stable")
    ranked = [(capture.expression_names[i], float(highest[i])) for i in order]
    return [{"name": n, "value": v, "percent": min(100 * v, 100)} for n, v in ranked]


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested JSON as rows of a table: the path of keys, and the value."""
    if isinstance(value, dict):
        paths = {key: f"{prefix} › {key}" if prefix else str(key) for key in value}
        return [row for key, item in value.items() for row in flatten(item, paths[key])]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = "; ".join(", ".join(f"{k} {_plain(v)}" for k, v in item.items()) for item in value)
    elif isinstance(value, list):
        value = ", ".join(_plain(item) for item in value)
    return [(prefix, _plain(value))]


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
