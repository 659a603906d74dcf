"""Neck, shoulders and chest below the head model: a closed body as wide as the matte, as deep as
people of that width are."""

from __future__ import annotations

import numpy as np
import torch

from likeness.seeding.source_view import SourceView

# Half widths of a trunk's sections from the neck to the chest, metres, with their half depths and
# the depths of their middles (of a person of average build).
_WIDTHS = np.array([0.070, 0.086, 0.112, 0.142, 0.172, 0.194, 0.208, 0.220])
_DEPTHS = np.array([0.062, 0.070, 0.078, 0.084, 0.090, 0.098, 0.108, 0.115])
_MIDDLES = np.array([-0.089, -0.090, -0.091, -0.090, -0.088, -0.084, -0.078, -0.074])
# Half widths by the height below the bottom of the head model's neck: where the image cuts off the
# shoulders.
_BELOW = np.array([0.0, 0.03, 0.045, 0.065, 0.09, 0.13])
_USUAL = np.array([0.06, 0.105, 0.15, 0.185, 0.205, 0.212])
_ROUNDNESS = 2.3  # of a section: 2 is an ellipse
_MAX_WIDTH, _STEP = 0.30, 0.003
_ITERATIONS = 3


def trunk_depths(view: SourceView, neck_bottom: float) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] each, metres along the camera's axis: where the rays of the pixels enter and leave the
    trunk; equal beside it.

    view: its camera's world is the body's frame. neck_bottom: height of the head model's border.
    """
    heights, middle, width = _outline(view, neck_bottom)
    camera = view.camera
    T = camera.T_cam_world.double().numpy()
    centre = camera.center.double().numpy()
    rays = view.rays.astype(np.float64)
    forward = rays @ T[2, :3]

    def depth_of(z: np.ndarray) -> np.ndarray:
        """Along the axis, of where the rays have a depth z in the body's frame."""
        return (z - centre[2]) / rays[..., 2] * forward

    def surface(side: float) -> np.ndarray:
        z = np.full(rays.shape[:2], _MIDDLES[0])
        for _ in range(_ITERATIONS):
            at = centre + rays * ((z - centre[2]) / rays[..., 2])[..., None]
            y = at[..., 1]
            a = np.interp(y, heights, width)
            x = (at[..., 0] - np.interp(y, heights, middle)) / a
            inner = (1 - np.abs(x).clip(0, 1) ** _ROUNDNESS) ** (1 / _ROUNDNESS)
            z = np.interp(a, _WIDTHS, _MIDDLES) + side * np.interp(a, _WIDTHS, _DEPTHS) * inner
        return depth_of(z).astype(np.float32)

    return surface(1.0), surface(-1.0)


def _outline(view: SourceView, neck_bottom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights [R], rising, with the middles and half widths of the trunk there."""
    from scipy.ndimage import median_filter, uniform_filter1d

    heights = np.arange(neck_bottom - 0.35, neck_bottom + 0.03, _STEP)
    x = np.arange(0.0, _MAX_WIDTH, _STEP)
    usual = np.interp(neck_bottom - heights, _BELOW, _USUAL)
    sides = []
    for sign in (1.0, -1.0):
        grid = np.stack(np.broadcast_arrays(sign * x, heights[:, None], _MIDDLES[0]), -1)
        pixels, _ = view.camera.project(torch.from_numpy(grid.reshape(-1, 3)).float())
        column, row = pixels.floor().long().numpy().T
        camera = view.camera
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        column, row = column.clip(0, camera.width - 1), row.clip(0, camera.height - 1)
        person = ((view.matte[row, column] > 0.5) & inside).reshape(grid.shape[:2])
        inside = inside.reshape(person.shape)
        last = np.where(person.all(1), len(x) - 1, (~person).argmax(1))
        width = x[last]
        # cut off by the image: nobody knows
        seen = inside[np.arange(len(heights)), last]
        sides.append(np.where(seen, width, np.maximum(usual, width)))
    left, right = (uniform_filter1d(median_filter(side, 5), 5) for side in sides)
    return heights, (left - right) / 2, ((left + right) / 2).clip(0.03)
