"""What the tracked head hides in a training frame: the mouth's inside behind its lips, eyes behind
their lids."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import HeadModel, ShapedHead
from likeness.head_models.inside import INSIDE
from likeness.head_models.landmarks import EYE_WIDTHS, LID_PAIRS, LIP_PAIRS
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.gaze import EYES
from likeness.scene.to_device import to_device

_CELL_M, _CELLS = 1e-3, 112
"""Size of a map's cells on the face, and cells along a side."""
_FAR_M = 1e3


@dataclasses.dataclass(frozen=True)
class Opening:
    """What opens in the skin. parts: of the head model, that lie behind. gaps: pairs of landmarks
    whose mean distance is its height; width: those whose distance is its width."""

    parts: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]
    width: tuple[int, int]
    closed: float
    """Height over width below which it is closed, whatever the mesh says."""
    room_m: float
    """By which the mesh may stand beside the picture: what is nearer than this to the edge counts
    as hidden."""
    tolerance_m: float
    """Behind the skin, where hiding begins."""

    def behind(self, model: HeadModel) -> Tensor:
        """[V] bool: the vertices behind it, as far as the model has them."""
        numbers = [model.part_names.index(part) for part in self.parts if part in model.part_names]
        return torch.isin(model.vertex_part, torch.tensor(numbers, device=model.vertex_part.device))

    def is_closed(self, capture: Capture, frame: int) -> bool:
        """Whether the landmarks of a frame show it closed; False where none were detected."""
        landmarks = capture.frames.landmarks[frame]
        pairs = torch.tensor((*self.gaps, self.width))
        if capture.frames.confidence[frame][pairs].min() <= 0:
            return False
        distances = (landmarks[pairs[:, 0]] - landmarks[pairs[:, 1]]).norm(dim=-1)
        return bool(distances[:-1].max() < self.closed * distances[-1])


# Lips of the head model at rest are 0.03 apart.
MOUTH = Opening(INSIDE, LIP_PAIRS[:3], LIP_PAIRS[-2], 0.04, 1e-3, 1e-3)
EYES_BEHIND_LIDS = tuple(
    Opening((f"eye_{eye}",), LID_PAIRS[eye][:3], EYE_WIDTHS[eye], 0.1, 0.0, 5e-4) for eye in EYES
)


@dataclasses.dataclass(frozen=True)
class _Map:
    """Depths [S, S] in metres of the skin around an opening, as ``camera`` (of the head frame) sees
    it, the nearest to the camera within the opening's room; ``_FAR_M`` where there is none."""

    camera: Camera
    depth: Tensor
    tolerance_m: float

    def hides(self, points: Tensor) -> Tensor:
        """[M] bool for points [M, 3] of the head frame."""
        pixels, depth = self.camera.project(points)
        column, row = pixels.nan_to_num().floor().clamp(0, _CELLS - 1).long().unbind(-1)
        return depth > self.depth[row, column] + self.tolerance_m


class Occlusion:
    """Where the frames of a capture hide what is behind openings. Maps are made when a frame is
    first asked for (some milliseconds) and kept (50 KB each)."""

    def __init__(
        self,
        capture: Capture,
        head: ShapedHead,
        device: torch.device | str,
        openings: Sequence[Opening] = (MOUTH,),
    ) -> None:
        self._capture, self._head, self._device = capture, head, device
        self._cameras = capture.cameras.in_frame(capture.states.T_world_head)
        self._openings = [(opening, opening.behind(head.model)) for opening in openings]
        self._skin = [self._near(behind) for _, behind in self._openings]
        self._maps: dict[int, list[_Map | None]] = {}

    def _near(self, behind: Tensor) -> np.ndarray:
        """The faces of the skin [F', 3] that a map can show, whatever the expression."""
        faces, vertices = self._head.model.skin_faces, self._head.vertices
        distances = (vertices[faces].mean(1) - vertices[behind].mean(0)).norm(dim=-1)
        return faces[distances < _CELL_M * _CELLS].numpy()

    def hidden(self, frame: int, points: Tensor, opening: int = 0) -> Tensor:
        """Whether a frame hides points [M, 3] of its head frame behind one of the openings, [M]
        bool."""
        if frame not in self._maps:
            self._maps[frame] = self._maps_of(frame)
        seen = self._maps[frame][opening]
        if seen is None:
            return torch.ones(len(points), dtype=torch.bool, device=points.device)
        return seen.hides(points)

    def _maps_of(self, frame: int) -> list[_Map | None]:
        """Those of the openings; None: it hides all."""
        closed = [opening.is_closed(self._capture, frame) for opening, _ in self._openings]
        if all(closed):
            return [None] * len(closed)
        vertices = self._head.posed(self._capture.states[frame]).vertices
        return [
            None if shut else self._map(frame, number, vertices)
            for number, shut in enumerate(closed)
        ]

    def _map(self, frame: int, number: int, vertices: Tensor) -> _Map:
        opening, behind = self._openings[number]
        camera = _around(self._cameras[frame], vertices[behind].mean(0))
        depth = rasterize_camera(vertices, self._skin[number], camera).depth
        depth = _nearest(np.minimum(depth, _FAR_M), round(opening.room_m / _CELL_M))
        K, T_cam_world, depths = to_device(
            (camera.K, camera.T_cam_world, torch.from_numpy(depth)), self._device
        )
        return _Map(Camera(K, T_cam_world, _CELLS, _CELLS), depths, opening.tolerance_m)


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
