"""The part of the page that shows what was found in the video: facts, warnings, mesh, mattes,
curves."""

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

_MATTES = 4
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
        size = (
            f", {video['width']}×{video['height']}"
            if "width" in video and "height" in video
            else ""
        )
        facts.append(("video", f"{name}{size}"))
    used = f"{len(capture.frames)} used at {capture.fps:g} per second"
    seen = frames.get("seen")
    facts.append(("frames", f"{used}, of {seen} looked at" if seen else used))
    if dropped := frames.get("dropped"):
        facts.append(
            ("left out", ", ".join(f"{reason}: {number}" for reason, number in dropped.items()))
        )
    held = f"the last {len(capture.test)} held out" if capture.test else "none held out"
    facts.append(("split", f"{len(capture.train)} for training, {held}"))
    facts.append(
        (
            "pictures",
            f"{camera.width}×{camera.height}, focal length {float(camera.K[0, 0]):.0f} pixels",
        )
    )
    if matting := (report.get("matting") or {}).get("name"):
        facts.append(("matting", str(matting)))
    facts.append(("head model", capture.head_model))
    median, high = np.percentile(percent, (50, 95))
    facts.append(
        (
            "landmark error",
            f"median {median:.2f} %, 95th percentile {high:.2f} % of the eye-corner distance",
        )
    )
    if found := report.get("photometric"):
        kept, sway = len(found["fallen_back"]), found.get("sway_mm", {}).get("rms", 0.0)
        facts.append(
            (
                "photometric tracking",
                f"error {found['error']['before']:.4f} → {found['error']['after']:.4f}; heads "
                f"turned by {found['rotation_deg']['median']:.1f}° (median), secondary motion "
                f"(sway) of hair and clothes {sway:.1f} mm (rms)"
                + (f"; {kept} frames as the landmarks had them" if kept else ""),
            )
        )
    return facts


def _mean_expression(capture: Capture, names: tuple[str, ...]) -> np.ndarray | None:
    """[T] the mean of some coefficients, None where the head model has none of them."""
    columns = [
        capture.expression_names.index(name) for name in names if name in capture.expression_names
    ]
    return capture.states.expression[:, columns].mean(-1).numpy() if columns else None


def _mesh(
    capture: Capture, angles: dict, percent: np.ndarray, expression: dict
) -> tuple[list, str | None]:
    """The tracked mesh over the frames that say most: extremes of pose, the widest mouth, the worst
    fit."""
    wanted = {
        "turned most to the subject's left": angles["yaw"].argmax(),
        "turned most to the subject's right": angles["yaw"].argmin(),
        "looking furthest up": angles["pitch"].argmax(),
        "looking furthest down": angles["pitch"].argmin(),
        "worst landmark fit": percent.argmax(),
    }
    if expression["jaw open"] is not None:
        wanted["mouth open widest"] = expression["jaw open"].argmax()
    try:
        draw = images.MeshPictures(capture)
        captions: dict[int, str] = {}
        for caption, index in wanted.items():
            captions[int(index)] = (
                f"{captions[int(index)]}, {caption}" if int(index) in captions else caption
            )
        figures = [
            {
                "uri": images.data_uri(draw(capture.frames[index]), 480),
                "caption": f"{caption} ({capture.frames[index].time_s:.1f} s, error {percent[index]:.1f} %)",
            }
            for index, caption in captions.items()
        ]
    except UserError as error:
        return [], str(error)
    return figures, None


def _mattes(capture: Capture) -> list[dict[str, str]]:
    """Some frames cut out, over a checkerboard and over magenta."""
    chosen = np.unique(np.linspace(0, len(capture.frames) - 1, _MATTES).round().astype(int))
    figures = []
    for index in chosen:
        frame = capture.frames[index]
        rgba = load_rgba(frame)
        for picture, ground in (
            (images.on_checkerboard(rgba), "checkerboard"),
            (images.on_magenta(rgba), "magenta"),
        ):
            figures.append(
                {"uri": images.data_uri(picture), "caption": f"{frame.time_s:.1f} s, on {ground}"}
            )
    return figures


def _curves(
    capture: Capture, angles: dict, percent: np.ndarray, expression: dict
) -> list[tuple[str, Markup]]:
    times = capture.frames.times_s.tolist()
    shaded = (min(times[i] for i in capture.test), max(times), "held out") if capture.test else None

    def chart(curves: dict[str, Any], y_label: str, **options: Any) -> Markup:
        series = [
            Series(name, times, values.tolist())
            for name, values in curves.items()
            if values is not None
        ]
        return Markup(
            line_chart(series, x_label="seconds", y_label=y_label, shaded=shaded, **options)
        )

    found = [
        ("Head pose", chart(angles, "degrees")),
        ("Expressions", chart(expression, "coefficient", from_zero=True)),
        ("Landmark error", chart({"error": percent}, "% of eye distance", from_zero=True)),
    ]
    return [(title, svg) for title, svg in found if svg]


def _expressions(capture: Capture) -> list[dict[str, Any]]:
    """How strongly each expression was seen, the strongest first."""
    highest = np.percentile(capture.states.expression.numpy(), 98, axis=0).clip(0, None)
    order = np.argsort(-highest, kind="stable")
    return [
        {
            "name": capture.expression_names[i],
            "value": float(highest[i]),
            "percent": min(100 * float(highest[i]), 100),
        }
        for i in order
    ]


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
