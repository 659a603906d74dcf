"""The matting model ``selfie``: the segmentation network inside MediaPipe's wheel, refined to an
alpha matte.

The network says where the person is, in a mask of 256 x 256 that flickers and cuts loose hair. Its
mask is averaged over time where the image stands still; what lies behind the person is learned as
a plate; colours then tell how much of each pixel near the edge is person.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch

from likeness.preprocess.matting.base import MattingChoice
from likeness.preprocess.matting.grid import CELL, distances, shrink
from likeness.preprocess.matting.plate import Background, BackgroundPlate, PlateConfig
from likeness.preprocess.matting.refine import RefineConfig, refine
from likeness.preprocess.matting.survey import StaticLayer, Survey, SurveyConfig
from likeness.preprocess.matting.temporal import motion_aware_mean
from likeness.preprocess.silence import silent_stderr
from likeness.preprocess.video import prefetch

# Sizes (width, height) that MediaPipe's two networks look at.
_GENERAL, _LANDSCAPE = (256, 256), (256, 144)
_LANDSCAPE_ASPECT = 1.5
_AHEAD = 2  # masks made before they are asked for
_MAX_THREADS = 4  # then the plate, which takes frame after frame, is as slow


@dataclasses.dataclass(frozen=True)
class SelfieConfig:
    """How the mask of the segmentation network becomes a matte."""

    mask_radius: int = 3
    """Frames before and after over which the mask is averaged."""
    mask_tolerance: float = 6.0
    """Change of colour in 8-bit levels from which on a frame no longer counts in the mask's
    average."""
    alpha_radius: int = 2
    """Frames before and after over which the matte is averaged."""
    alpha_tolerance: float = 6.0
    """Change of colour in 8-bit levels from which on a frame no longer counts in the matte's
    average."""
    survey: SurveyConfig = SurveyConfig()
    """What stands still over the clip."""
    plate: PlateConfig = PlateConfig()
    """The background."""
    refine: RefineConfig = RefineConfig()
    """The edge."""


class SelfieMatting:
    """Mattes for one person before a background, best before a still one. Reads ahead
    ``look_ahead`` frames.

    threads: how many refine frames side by side, while one more runs the network; the mattes do not
        depend on it.
    """

    name = "selfie"

    def __init__(self, config: SelfieConfig = SelfieConfig(), threads: int = 1) -> None:
        self.config, self.threads = config, min(threads, _MAX_THREADS)
        self._static: StaticLayer | None = None
        self.look_ahead = config.mask_radius + config.alpha_radius
        if self.threads > 1:
            # one in the network's hands, one handed over
            self.look_ahead += self.threads + _AHEAD + 2

    def survey(self, frames: Iterable[np.ndarray]) -> None:
        """Looks at frames [H, W, 3] of the whole clip whose mattes come next: what stands still in
        them is known as background from its first frame on."""
        survey = Survey(self.config.survey)
        for _, mask, frame in _segment(frames):
            height, width = frame.shape[:2]
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
            survey.add(frame, mask)
        self._static = survey.static_layer()

    def mattes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mattes uint8 [H, W] of consecutive frames uint8 RGB [H, W, 3], in order."""
        config = self.config
        masks = motion_aware_mean(_segment(frames), config.mask_radius, config.mask_tolerance)
        if self.threads > 1:
            masks = prefetch(masks, _AHEAD)
        alphas = motion_aware_mean(self._refine(masks), config.alpha_radius, config.alpha_tolerance)
        for _, alpha, _ in alphas:
            yield (alpha * 255 + 0.5).astype(np.uint8)

    def _refine(
        self, masks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, None]]:
        plate = BackgroundPlate(self.config.plate, self._static)
        if self.threads == 1:
            for _, small, frame in masks:
                yield frame, self._alpha(frame, *self._seen(plate, frame, small)), None
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="mattes") as pool:
            waiting: deque[tuple[np.ndarray, Future]] = deque()
            for _, small, frame in masks:
                waiting.append(
                    (frame, pool.submit(self._alpha, frame, *self._seen(plate, frame, small)))
                )
                if len(waiting) > self.threads:
                    frame, alpha = waiting.popleft()
                    yield frame, alpha.result(), None
            for frame, alpha in waiting:
                yield frame, alpha.result(), None

    @staticmethod
    def _seen(
        plate: BackgroundPlate, frame: np.ndarray, small: np.ndarray
    ) -> tuple[np.ndarray, Background | None]:
        """The mask [H, W] of a frame and what the plate knows about what is behind."""
        height, width = frame.shape[:2]
        mask = cv2.resize(_main_part(small), (width, height), interpolation=cv2.INTER_LINEAR)
        away = distances(shrink(mask) > 0.3) * (CELL * 512 / max(height, width))
        return mask, plate.look(frame, away)

    def _alpha(
        self, frame: np.ndarray, mask: np.ndarray, background: Background | None
    ) -> np.ndarray:
        return mask if background is None else refine(frame, mask, background, self.config.refine)


def load(choice: MattingChoice) -> SelfieMatting:
    """It runs on the CPU whatever the device; its network is in MediaPipe's wheel."""
    return SelfieMatting(threads=torch.get_num_threads())


def _segment(frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Small image [h, w, 3], probability of a person [h, w] float32, frame."""
    networks: dict[int, Any] = {}
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            model = int(width >= _LANDSCAPE_ASPECT * height)
            small = cv2.resize(
                frame, _LANDSCAPE if model else _GENERAL, interpolation=cv2.INTER_AREA
            )
            if model not in networks:
                networks[model] = _open_network(model)
            yield small, networks[model].process(small).segmentation_mask.astype(np.float32), frame
    finally:
        for network in networks.values():
            network.close()


def _open_network(model: int) -> Any:
    with silent_stderr():
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

        network = SelfieSegmentation(model_selection=model)
        # the graph starts in its threads: wait for its chatter
        network.process(np.zeros((64, 64, 3), np.uint8))
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
