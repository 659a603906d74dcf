"""The matter ``selfie``: the segmentation network inside MediaPipe's wheel, refined to an alpha matte.

The network says where the person is, in a mask of 256 x 256 that flickers and cuts loose hair. Its mask is averaged
over time where the picture stands still; what lies behind the person is learned as a plate; colours then tell how much
of each pixel near the edge is person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from preprocess.matting.grid import CELL, distances, shrink
from preprocess.matting.plate import BackgroundPlate, PlateConfig
from preprocess.matting.refine import RefineConfig, refine
from preprocess.matting.temporal import motion_aware_mean
from preprocess.silence import silent_stderr

# Sizes (width, height) that MediaPipe's two networks look at.
_GENERAL, _LANDSCAPE = (256, 256), (256, 144)
_LANDSCAPE_ASPECT = 1.5


@dataclasses.dataclass(frozen=True)
class SelfieConfig:
    """How the mask of the segmentation network becomes a matte."""

    mask_radius: int = 3
    """Frames before and after over which the mask is averaged."""
    mask_tolerance: float = 6.0
    """Change of colour in 8-bit levels from which on a frame no longer counts in the mask's average."""
    alpha_radius: int = 2
    """Frames before and after over which the matte is averaged."""
    alpha_tolerance: float = 3.0
    """Change of colour in 8-bit levels from which on a frame no longer counts in the matte's average."""
    plate: PlateConfig = PlateConfig()
    """The background."""
    refine: RefineConfig = RefineConfig()
    """The edge."""


class SelfieMatter:
    """Mattes for one person before a background, best before a still one. Reads ahead ``look_ahead`` frames."""

    name = "selfie"

    def __init__(self, config: SelfieConfig = SelfieConfig()) -> None:
        self.config = config
        self.look_ahead = config.mask_radius + config.alpha_radius

    def mattes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mattes uint8 [H, W] of consecutive frames uint8 RGB [H, W, 3], in order."""
        config = self.config
        masks = motion_aware_mean(_segment(frames), config.mask_radius, config.mask_tolerance)
        alphas = motion_aware_mean(self._refine(masks), config.alpha_radius, config.alpha_tolerance)
        for _, alpha, _ in alphas:
            yield (alpha * 255 + 0.5).astype(np.uint8)

    def _refine(
        self, masks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, None]]:
        plate = BackgroundPlate(self.config.plate)
        for _, small, frame in masks:
            height, width = frame.shape[:2]
            mask = cv2.resize(_main_part(small), (width, height), interpolation=cv2.INTER_LINEAR)
            away = distances(shrink(mask) > 0.3) * (CELL * 512 / max(height, width))
            background = plate.look(frame, away)
            yield frame, (mask if background is None else refine(frame, mask, background, self.config.refine)), None


def _segment(frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Small picture [h, w, 3], probability of a person [h, w] float32, frame."""
    networks: dict[int, object] = {}
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            model = int(width >= _LANDSCAPE_ASPECT * height)
            small = cv2.resize(frame, _LANDSCAPE if model else _GENERAL, interpolation=cv2.INTER_AREA)
            if model not in networks:
                networks[model] = _open_network(model)
            yield small, networks[model].process(small).segmentation_mask.astype(np.float32), frame
    finally:
        for network in networks.values():
            network.close()


def _open_network(model: int):
    with silent_stderr():
        import mediapipe

        network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=model)
        network.process(np.zeros((64, 64, 3), np.uint8))  # the graph starts in its threads: wait for its chatter
    return network


def _main_part(mask: np.ndarray) -> np.ndarray:
    """The mask without persons apart from the largest one."""
    person = (mask > 0.5).astype(np.uint8)
    # Nearby parts belong together: a shoulder behind a microphone, a hair tie.
    joined = cv2.dilate(person, np.ones((7, 7), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    if count <= 2:
        return mask
    areas = np.bincount(labels[person > 0], minlength=count)
    areas[0] = 0
    return np.where((labels == areas.argmax()) | (labels == 0), mask, 0).astype(np.float32)
