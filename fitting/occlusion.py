"""What the tracked head hides in a training frame: the mouth's inside behind its lips."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.head_models.inside import inside_mouth
from likeness.head_models.landmarks import LIP_PAIRS
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.to_device import to_device

_CELL_M, _CELLS = 1e-3, 112
"""Size of a map's cells on the face, and cells along a side."""
_ROOM_M = 1e-3  # by which tracked lips may stand beside those of the picture
_TOLERANCE_M = 1e-3  # behind the skin
_CLOSED = 0.04
"""Height over width of the gap between the landmarks of the lips, below which they are closed,
whatever the mesh says. (Those of the head model at rest are 0.03 apart.)"""
_GAPS, _WIDTH = LIP_PAIRS[:3], LIP_PAIRS[-2]
_FAR_M = 1e3


@dataclasses.dataclass(frozen=True)
class _Map:
    """Depths [S, S] in metres of the skin around a place, as ``camera`` (of the head frame) sees
    it, the nearest to the camera within ``_ROOM_M``; ``_FAR_M`` where there is none."""

    camera: Camera
    depth: Tensor

    def hides(self, points: Tensor) -> Tensor:
        """[M] bool for points [M, 3] of the head frame."""
        pixels, depth = self.camera.project(points)
        column, row = pixels.nan_to_num().floor().clamp(0, _CELLS - 1).long().unbind(-1)
        return depth > self.depth[row, column] + _TOLERANCE_M


class Occlusion:
    """Where the frames of a capture hide the mouth's inside. Maps are made when a frame is first
    asked for (some milliseconds) and kept (50 KB each)."""

    def __init__(self, capture: Capture, head: ShapedHead, device: torch.device | str) -> None:
        self._capture, self._head, self._device = capture, head, device
        self._cameras = capture.cameras.in_frame(capture.states.T_world_head)
        self._inside = inside_mouth(head.model)
        self._skin = head.model.skin_faces.numpy()
        self._maps: dict[int, _Map | None] = {}

    def hidden(self, frame: int, points: Tensor) -> Tensor:
        """Whether a frame hides points [M, 3] of its head frame, [M] bool: all but those that it
        shows with some room to spare."""
        if frame not in self._maps:
            self._maps[frame] = self._map(frame)
        seen = self._maps[frame]
        if seen is None:
            return torch.ones(len(points), dtype=torch.bool, device=points.device)
        return seen.hides(points)

    def _map(self, frame: int) -> _Map | None:
        """None: it hides all."""
        if lips_closed(self._capture, frame):
            return None
        vertices = self._head.posed(self._capture.states[frame]).vertices
        centre = vertices[self._inside].mean(0)
        camera = _around(self._cameras[frame], centre)
        depth = rasterize_camera(vertices, self._skin, camera).depth
        depth = _nearest(np.minimum(depth, _FAR_M), round(_ROOM_M / _CELL_M))
        K, T_cam_world, depths = to_device(
            (camera.K, camera.T_cam_world, torch.from_numpy(depth)), self._device
        )
        return _Map(Camera(K, T_cam_world, _CELLS, _CELLS), depths)


def lips_closed(capture: Capture, frame: int) -> bool:
    """Whether the landmarks of a frame show closed lips; False where none were detected."""
    landmarks = capture.frames.landmarks[frame]
    confidence = capture.frames.confidence[frame]
    pairs = torch.tensor((*_GAPS, _WIDTH))
    if confidence[pairs].min() <= 0:
        return False
    distances = (landmarks[pairs[:, 0]] - landmarks[pairs[:, 1]]).norm(dim=-1)
    return bool(distances[:-1].max() < _CLOSED * distances[-1])


def _around(camera: Camera, point: Tensor) -> Camera:
    """A camera at the same place that shows the surroundings of a point [3] alone, a cell to a
    pixel."""
    pixel, depth = camera.project(point[None])
    scale = float(depth[0]) / (_CELL_M * float(camera.K[0, 0]))
    K = camera.K.clone()
    K[:2] *= scale
    K[:2, 2] += _CELLS / 2 - pixel[0] * scale
    return Camera(K, camera.T_cam_world, _CELLS, _CELLS)


def _nearest(depth: np.ndarray, radius: int) -> np.ndarray:
    import cv2

    side = 2 * radius + 1
    return cv2.erode(depth, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
