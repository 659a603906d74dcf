"""What is good and bad about a video for fitting an avatar, and what to film better: plain JSON
values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from likeness.preprocess.damage import describe as describe_damage

PURPOSES = ("avatar", "driver")
"""What a video is for: to make an avatar of the person, or to drive one."""

# An expression was seen when its coefficient reached this.
_SEEN = 0.2
# The coefficients whose absence most limits an avatar: what must be seen of them, and what to do.
_WANTED = (
    (
        ("jawOpen",),
        0.25,
        "the mouth hardly opens",
        "speak some sentences, and open the mouth wide once",
    ),
    (
        ("mouthSmileLeft", "mouthSmileRight"),
        0.25,
        "no smile is seen",
        "smile, with and without showing the teeth",
    ),
)


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """Thresholds of the warnings."""

    max_lid_opening: float = 0.4
    """Least height of the lid gap, in units of the same eye's when open, above which it never
    closed. Of seven clips six reach 0.30 or less in both eyes; the seventh, whose eyes are never
    shut, 0.51. (The coefficients of a blink are
    no measure: of shut eyes they reach 0.4 in some persons, 0.95 in others.)"""
    min_yaw_degrees: float = 25.0
    """Range of yaw (5th to 95th percentile) below which more turning is asked for."""
    min_pitch_degrees: float = 12.0
    """The same for nodding."""
    min_eye_distance: float = 60.0
    """Outer eye corners, in pixels of the video, below which the face is called small."""
    min_sharpness: float = 30.0
    """Median variance of the Laplacian of the face at 128 pixels (0 to 255 scale) below which
    images are soft."""
    max_exposure_change: float = 0.3
    """Range of the face's brightness (5th to 95th percentile over the median)."""
    max_flicker_px: float = 0.6
    """Mean jump of the matte's edge in pixels at 512 pixels image size."""
    max_residual_percent: float = 2.5
    """Median landmark error in per cent of the distance of the outer eye corners."""
    min_seconds: float = 12.0
    """Usable footage below which more is asked for."""
    max_dropped: float = 0.2
    """Fraction of frames left out."""


def head_angles(T_world_head: np.ndarray) -> dict[str, np.ndarray]:
    """Yaw, pitch and roll [T] in degrees of head poses [T, 4, 4] before a camera in the world's
    origin.

    All 0 for a head that faces the camera upright. yaw > 0: turned to the subject's left; pitch >
    0: looking up; roll > 0: tilted to the subject's right.
    """
    R = np.diag([1.0, -1.0, -1.0]) @ np.asarray(T_world_head, np.float64)[:, :3, :3]
    out = R[:, :, 2]
    return {
        "yaw": np.degrees(np.arctan2(out[:, 0], out[:, 2])),
        "pitch": np.degrees(np.arcsin(np.clip(out[:, 1], -1, 1))),
        "roll": np.degrees(np.arctan2(R[:, 1, 0], R[:, 0, 0])),
    }


def tracking_quality(
    residual_percent: np.ndarray,
    expression: np.ndarray,
    expression_names: Iterable[str],
    T_world_head: np.ndarray,
    time_s: np.ndarray,
) -> dict[str, Any]:
    """Figures of a tracked clip: errors [T], coefficients [T, E], poses [T, 4, 4], times [T]."""
    worst = np.argsort(-residual_percent)[:8]
    steps = np.diff(time_s)
    regular = steps < 1.5 * np.median(steps) if len(steps) else steps.astype(bool)
    triples = regular[1:] & regular[:-1]
    angles = head_angles(T_world_head)
    center = T_world_head[:, :3, 3] * 1000
    return {
        "residual_percent": {
            "median": _rounded(np.median(residual_percent)),
            "p95": _rounded(np.percentile(residual_percent, 95)),
            "max": _rounded(residual_percent.max()),
        },
        "worst_frames": [
            {
                "frame": int(i),
                "time_s": _rounded(time_s[i]),
                "percent": _rounded(residual_percent[i]),
            }
            for i in worst
        ],
        "pose_degrees": {name: _span(values) for name, values in angles.items()},
        "distance_mm": _span(np.linalg.norm(center, axis=-1)),
        "jitter": {
            **{
                f"{name}_degrees": _jitter(np.unwrap(v, period=360), triples)
                for name, v in angles.items()
            },
            "position_mm": _jitter(center, triples),
        },
        "expressions": {
            name: {"p95": _rounded(np.percentile(column, 95)), "max": _rounded(column.max())}
            for name, column in zip(expression_names, expression.T)
        },
        "expressions_not_seen": [
            n for n, column in zip(expression_names, expression.T) if column.max() < _SEEN
        ],
        "saturated": _rounded((expression >= 0.99).any(1).mean()),
    }


def lid_opening(points: np.ndarray) -> dict[str, float]:
    """Least height of each eye's lid gap by landmarks [T, 478, 2], in units of that eye's when
    open."""
    import torch

    from likeness.preprocess.tracking.gaze import opening
    from likeness.scene.gaze import EYES

    result = {}
    for eye in EYES:
        heights = opening(torch.from_numpy(np.asarray(points, np.float64)), eye).numpy()
        result[eye] = _rounded(heights.min() / max(float(np.percentile(heights, 80)), 1e-6))
    return result


def image_quality(
    sharpness: np.ndarray, luminance: np.ndarray, eye_distance: np.ndarray
) -> dict[str, Any]:
    """Figures of the face's images [T]: sharpness, brightness in [0, 1], eye distance in pixels
    of the video."""
    typical = max(float(np.median(luminance)), 1e-6)
    spread = np.percentile(luminance, 95) - np.percentile(luminance, 5)
    return {
        "sharpness": _span(sharpness),
        "soft_frames": int((sharpness < 0.5 * np.median(sharpness)).sum()),
        "face_luminance": _span(luminance),
        "exposure_change": _rounded(spread / typical),
        "eye_distance_px": _span(eye_distance),
    }


class MatteQuality:
    """Collects figures over mattes [H, W] uint8 in order, one at a time.

    flicker: how far, in pixels of a 512 pixel image, the edge jumps to and fro: the area that
    differs from the frame before and from the one after in the same sense, over the edge's length.
    Steady motion does not count.
    """

    _SIZE = 256

    def __init__(self) -> None:
        self._recent: list[np.ndarray] = []
        self._flicker: list[float] = []
        self._area: list[float] = []
        self._top: list[float] = []

    def add(self, matte: np.ndarray, follows: bool) -> None:
        """``follows``: the frame before is its neighbour in time."""
        from likeness.preprocess.video import import_cv2

        cv2 = import_cv2()
        small = (
            cv2.resize(matte, (self._SIZE, self._SIZE), interpolation=cv2.INTER_AREA).astype(
                np.float32
            )
            / 255
        )
        self._area.append(float(small.mean()))
        self._top.append(float(small[0].mean()))
        self._recent = [*self._recent[-2:], small] if follows else [small]
        if len(self._recent) == 3:
            a, b, c = self._recent
            edge = np.hypot(np.diff(b, axis=1)[1:], np.diff(b, axis=0)[:, 1:]).sum()
            there = np.maximum(np.minimum(b - a, b - c), 0) + np.maximum(
                np.minimum(a - b, c - b), 0
            )
            self._flicker.append(float(there.sum() / max(edge, 1.0)) * 512 / self._SIZE)

    def figures(self) -> dict[str, Any]:
        return {
            "flicker_px": _rounded(np.mean(self._flicker)) if self._flicker else None,
            "flicker_px_p95": _rounded(np.percentile(self._flicker, 95)) if self._flicker else None,
            "area": _span(np.array(self._area)),
            "touches_top": _rounded(np.median(self._top)),
        }


def warnings(
    report: dict[str, Any], config: QualityConfig = QualityConfig(), purpose: str = "avatar"
) -> list[dict[str, str]]:
    """What limits this video, each with a remedy for the next one. ``report`` is the capture's,
    with all its parts.

    purpose: one of PURPOSES. Who drives an avatar need not show what an avatar is made of.
    """
    result: list[dict[str, str]] = []

    def warn(condition: bool, what: str, remedy: str, driver: bool = True) -> None:
        if condition and (driver or purpose == "avatar"):
            result.append({"what": what, "remedy": remedy})

    pose, pictures, mattes = (
        report["tracking"]["pose_degrees"],
        report["pictures"],
        report["mattes"],
    )
    frames, video = report["frames"], report["video"]
    yaw, pitch = (pose[name]["p95"] - pose[name]["p5"] for name in ("yaw", "pitch"))
    warn(
        yaw < config.min_yaw_degrees,
        f"the head turns over {yaw:.0f}° only: the avatar will be poor from the sides",
        "turn the head slowly to both sides, about 30° each",
        driver=False,
    )
    warn(
        pitch < config.min_pitch_degrees,
        f"the head nods over {pitch:.0f}° only",
        "look up and down slowly, about 15° each",
        driver=False,
    )
    seen = report["tracking"]["expressions"]
    for names, least, what, remedy in _WANTED:
        maxima = [seen[name]["max"] for name in names if name in seen]
        warn(bool(maxima) and min(maxima) < least, what, remedy, driver=False)
    lids = report["tracking"]["lid_opening"]
    warn(
        max(lids.values()) > config.max_lid_opening,
        "no blink is seen",
        "blink now and then, and close the eyes once",
        driver=False,
    )
    residual = report["tracking"]["residual_percent"]["median"]
    warn(
        residual > config.max_residual_percent,
        f"the head model follows the face poorly (median error {residual:.1f} % of the eye "
        "distance)",
        "keep hair and hands off the face, use even light, avoid extreme grimaces",
    )
    eyes = pictures["eye_distance_px"]["median"]
    warn(
        eyes < config.min_eye_distance,
        f"the face is small ({eyes:.0f} pixels between the outer eye corners)",
        "come closer to the camera or record at a higher resolution",
    )
    side, size = report["crop"]["side"], report["crop"]["size"]
    warn(
        side < 0.75 * size,
        f"the head fills only {side} pixels, enlarged to {size}",
        f"come closer, record at a higher resolution, or give a smaller --size (about {side})",
        driver=False,
    )
    sharp = pictures["sharpness"]["median"]
    warn(
        sharp < config.min_sharpness,
        f"the images are soft (sharpness {sharp:.0f}, expected at least "
        f"{config.min_sharpness:.0f})",
        "clean the lens, lock the focus on the face, use more light",
    )
    change = pictures["exposure_change"]
    warn(
        change > config.max_exposure_change,
        f"the brightness of the face changes by {100 * change:.0f} %",
        "lock the exposure and keep the light where it is",
        driver=False,
    )
    flicker = mattes["flicker_px"]
    warn(
        flicker is not None and flicker > config.max_flicker_px,
        f"the outline of the matte flickers ({flicker or 0:.1f} pixels)",
        "film before a plain wall whose colour differs from hair and clothes",
        driver=False,
    )
    warn(
        mattes["touches_top"] > 0.02,
        "the top of the head is cut off by the image's border",
        "leave some room above the hair",
        driver=False,
    )
    warn(
        frames["used_seconds"] < config.min_seconds,
        f"only {frames['used_seconds']:.0f} s of it can be used",
        "film one to two minutes",
        driver=False,
    )
    left_out = {reason: n for reason, n in frames["dropped"].items() if reason != "sampled down"}
    share = sum(left_out.values()) / max(frames["seen"], 1)
    warn(
        share > config.max_dropped,
        f"{100 * share:.0f} % of the frames were left out ({describe(left_out)})",
        "keep the whole face in the image, in focus, without cuts",
    )
    warn(
        bool(frames["cuts_s"]),
        f"the video is cut (at {_times(frames['cuts_s'])}): {_part(frames)}, the rest is left out",
        "give an uncut recording, or choose the shot with --start and --end",
    )
    warn(
        frames["most_faces"] > 1,
        f"up to {frames['most_faces']} faces are seen: the one that is largest for longest was "
        "followed",
        "film one person alone",
    )
    decoded, announced = video["decoded_frames"], video["announced_frames"]
    warn(
        video["cut_off"],
        f"the file announces {announced} frames, but only {decoded} can be read: it is damaged or "
        "cut off",
        "copy it again from the camera, if more of it is needed",
    )
    warn(
        video["damaged_frames"] > 0,
        f"{video['damaged_frames']} frames are damaged{_damage(video)} and were left out",
        "copy the video again from the camera",
    )
    warn(
        video["frames_without_timestamp"] > 0,
        f"{video['frames_without_timestamp']} frames have no usable timestamp; the frame rate "
        "stood in for it",
        "convert the video (ffmpeg -i FILE -c:v libx264 out.mp4) if the motion looks uneven",
    )
    return result


def describe(counts: dict[str, int]) -> str:
    """Reasons and numbers as people read them."""
    return ", ".join(f"{reason}: {number}" for reason, number in counts.items()) or "none"


def _times(times_s: list[float]) -> str:
    return ", ".join(f"{time_s:.1f} s" for time_s in times_s[:5]) + (
        ", ..." if len(times_s) > 5 else ""
    )


def _damage(video: dict[str, Any]) -> str:
    spans = video.get("damaged_s")  # not in captures of earlier programs
    return f", {describe_damage(spans, video['duration_s'])}," if spans else ""


def _part(frames: dict[str, Any]) -> str:
    if "part_s" not in frames:  # captures of earlier programs
        return "one shot of it is used"
    return "the part from {:.1f} to {:.1f} s is used".format(*frames["part_s"])


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def _span(values: np.ndarray) -> dict[str, float]:
    low, p5, median, p95, high = np.percentile(values, [0, 5, 50, 95, 100])
    names = ("min", "p5", "median", "p95", "max")
    return {name: _rounded(value) for name, value in zip(names, (low, p5, median, p95, high))}


def _jitter(values: np.ndarray, triples: np.ndarray) -> float | None:
    """Median size of the second difference [T] or [T, C] over neighbouring frames, divided by its
    gain on noise, √6."""
    if not triples.any():
        return None
    second = np.diff(values, n=2, axis=0)[triples]
    size = np.abs(second) if second.ndim == 1 else np.linalg.norm(second, axis=-1)
    return _rounded(np.median(size) / 6**0.5)
