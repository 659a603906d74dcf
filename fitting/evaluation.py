"""Measuring an avatar on frames of a capture.

Protocol of the papers: the frames are composited on white, every metric is taken per frame over the
whole image, and the figure is the mean over frames (so the mean of PSNRs, not the PSNR of the
mean error). The PSNR of a region is that of its pixels. Error shares are of the squared error
summed over all frames.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting import metrics
from likeness.fitting.image_regions import border_band, boxes_mask, error_masks, face_boxes
from likeness.scene.capture import Capture
from likeness.scene.frame_images import composite, load_rgba

IMAGE_METRICS = ("l1", "psnr", "ssim", "lpips")
REGIONS = ("face", "mouth", "eyes", "inside")
SHARES = ("border", "torso", "face", "rest")
MAX_PSNR = 100.0
"""Per frame, in dB: one frame that is matched exactly shall not make the mean infinite."""


@dataclasses.dataclass(frozen=True)
class FrameMetrics:
    """What was measured on one frame. NaN: not measurable there (a region outside the image).

    index: position in the capture's frames. name: the stem of its files. lpips: None where it was
        not measured.
    regions: PSNR in dB by region. squared_error: sums over pixels (means over channels) by error
        mask.
    """

    index: int
    name: str
    time_s: float
    l1: float
    psnr: float
    ssim: float
    lpips: float | None
    regions: dict[str, float]
    squared_error: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of an avatar on some frames. lpips_net: the network of LPIPS, None without it."""

    frames: tuple[FrameMetrics, ...]
    lpips_net: str | None = None

    @property
    def heldout(self) -> dict[str, float | None]:
        """Means over the frames of L1, PSNR, SSIM and LPIPS over the whole image; None where
        nothing was measured."""
        return {
            name: _mean([getattr(frame, name) for frame in self.frames]) for name in IMAGE_METRICS
        }

    @property
    def regions(self) -> dict[str, dict[str, float | None]]:
        """Means over the frames of the PSNR in face, mouth, eyes, and inside (all but the matte's
        border band)."""
        return {
            name: {"psnr": _mean([frame.regions[name] for frame in self.frames])}
            for name in REGIONS
        }

    @property
    def error_share(self) -> dict[str, float | None]:
        """Where the squared error lies; sums to 1. None where there is no error at all."""
        sums = {name: sum(frame.squared_error[name] for frame in self.frames) for name in SHARES}
        total = sum(sums.values())
        return {name: value / total if total > 0 else None for name, value in sums.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values for metrics.json, never NaN or infinite: heldout, regions, error_share,
        lpips_net, per_frame."""
        per_frame = [dataclasses.asdict(frame) for frame in self.frames]
        for entry in per_frame:
            del entry["squared_error"]
        values = {
            "num_frames": len(self.frames),
            "heldout": self.heldout,
            "regions": self.regions,
            "error_share": self.error_share,
            "lpips_net": self.lpips_net,
            "per_frame": per_frame,
        }
        return finite(values)


def evaluate(
    render: Callable[[int], Tensor],
    capture: Capture,
    indices: Sequence[int],
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Evaluation:
    """Measures ``render(index)`` [H, W, 3] on white in [0, 1] against the capture's frames
    ``indices``.

    lpips: distance of two images (likeness.fitting.perceptual.LPIPS), left out if None. Raises
    UserError when an image of the capture is damaged, ValueError when ``render`` gives another
    size.
    """
    frames = [_measure(render(index), capture, index, lpips) for index in indices]
    return Evaluation(tuple(frames), getattr(lpips, "net", None))


@torch.no_grad()
def _measure(
    image: Tensor, capture: Capture, index: int, lpips: Callable[[Tensor, Tensor], Tensor] | None
) -> FrameMetrics:
    frame = capture.frames[index]
    rgba = load_rgba(frame)
    truth = composite(rgba)
    image = image.detach().float().cpu().clamp(0, 1)
    if image.shape != truth.shape:
        raise ValueError(
            f"evaluate: expected an image {list(truth.shape)}, got {list(image.shape)}"
        )
    matte = rgba[..., 3]
    height, width = matte.shape
    squared = (image.double() - truth.double()).square().mean(-1)
    regions = {name: boxes_mask(b, width, height) for name, b in face_boxes(frame).items()}
    regions["inside"] = ~border_band(matte)

    def inside(mask: np.ndarray) -> Tensor:
        return squared[torch.from_numpy(mask)]

    return FrameMetrics(
        index=index,
        name=frame.image_path.stem,
        time_s=frame.time_s,
        l1=metrics.l1(image, truth),
        psnr=_capped_psnr(squared),
        ssim=metrics.ssim(image, truth),
        lpips=None if lpips is None else _distance(lpips, image, truth),
        regions={name: _capped_psnr(inside(mask)) for name, mask in regions.items()},
        squared_error={
            name: float(inside(mask).sum()) for name, mask in error_masks(frame, matte).items()
        },
    )


def _distance(lpips: Callable[[Tensor, Tensor], Tensor], image: Tensor, truth: Tensor) -> float:
    device = next(lpips.buffers()).device if isinstance(lpips, torch.nn.Module) else "cpu"
    return float(lpips(image.to(device), truth.to(device)))


def _capped_psnr(squared: Tensor) -> float:
    if not squared.numel():
        return math.nan
    return min(metrics.psnr_from_mse(float(squared.mean())), MAX_PSNR)


def _mean(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None and math.isfinite(value)]
    return sum(measured) / len(measured) if measured else None


def headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that count of a metrics.json or of ``Evaluation.to_json``: L1, PSNR, SSIM, LPIPS,
    PSNR by region, those of ``counted``. None for what was not measured, or is no finite number."""
    measured = counted(metrics)
    whole = {name: number_at(measured, "heldout", name) for name in IMAGE_METRICS}
    return whole | {name: number_at(measured, "regions", name, "psnr") for name in REGIONS}


def counted(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The evaluation whose figures count: of frames as a driver reaches them, without the secondary
    motion that was tracked on these very frames. A metrics.json without that entry is of a capture
    without secondary motion, or older: all that it has."""
    without_secondary_motion = metrics.get("unswayed")
    if isinstance(without_secondary_motion, Mapping) and without_secondary_motion:
        return without_secondary_motion
    return metrics


def number_at(value: Any, *keys: str) -> float | None:
    """The finite number at a path in nested dictionaries, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if usable and math.isfinite(value) else None


def finite(value: Any) -> Any:
    """The same plain JSON value with None in place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
